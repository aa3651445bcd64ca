-- name: survey
-- One pass over few columns of the active memories: which namespaces hold any that may be due, by
-- the bound of their workspace ($3 to $6), or by the defaults ($7 to $9) where it has no rules. A
-- floor of 0 is never reached. Ages are counted to $2.
SELECT m.workspace, m.namespace, count(*) AS active
FROM engram.memory m
LEFT JOIN unnest($3::uuid[], $4::float8[], $5::float8[], $6::float8[])
    AS b (workspace, half_life_s, floor, grace_s) ON b.workspace = m.workspace
WHERE m.state = 'active' AND ($1::uuid IS NULL OR m.workspace = $1)
  AND ($10::text IS NULL OR m.namespace = $10)
GROUP BY m.workspace, m.namespace
HAVING bool_or(
    NOT m.pinned AND m.expires_at IS NULL
    AND CASE WHEN coalesce(b.floor, $8::float8) > 0
             THEN date_part('epoch', $2::timestamptz - m.reinforced_at)
                  >= coalesce(b.grace_s, $9::float8) + coalesce(b.half_life_s, $7::float8)
                     * greatest(0, ln(m.importance / coalesce(b.floor, $8::float8)) / ln(2::float8))
             ELSE false END)
ORDER BY m.workspace, m.namespace

-- name: due
-- By the policy of each namespace, at each of some instants.
SELECT m.namespace, i.place, count(*) AS due
FROM unnest($2::text[], $3::float8[], $4::float8[], $5::float8[])
    AS n (namespace, half_life_s, floor, grace_s)
JOIN engram.memory m ON m.workspace = $1 AND m.namespace = n.namespace
CROSS JOIN unnest($6::timestamptz[]) WITH ORDINALITY AS i (instant, place)
WHERE m.state = 'active' AND NOT m.pinned AND m.expires_at IS NULL
  AND date_part('epoch', i.instant - m.reinforced_at)
      >= n.grace_s + n.half_life_s * greatest(0, ln(m.importance / n.floor) / ln(2::float8))
GROUP BY m.namespace, i.place

-- name: pick
-- What is due longest first, up to what the run may take of each namespace.
SELECT p.id, p.namespace, p.importance, p.reinforced_at, p.due
FROM (
    SELECT d.*, row_number() OVER w AS place, count(*) OVER (PARTITION BY d.namespace) AS due
    FROM (
        SELECT m.id, m.namespace, m.importance, m.reinforced_at, n.allowed,
               date_part('epoch', $6::timestamptz - m.reinforced_at) - n.grace_s
                   - n.half_life_s * greatest(0, ln(m.importance / n.floor) / ln(2::float8))
                   AS overdue_s
        FROM unnest($2::text[], $3::float8[], $4::float8[], $5::float8[], $7::bigint[])
            AS n (namespace, half_life_s, floor, grace_s, allowed)
        JOIN engram.memory m ON m.workspace = $1 AND m.namespace = n.namespace
        WHERE m.state = 'active' AND NOT m.pinned AND m.expires_at IS NULL
    ) AS d
    WHERE d.overdue_s >= 0
    WINDOW w AS (PARTITION BY d.namespace ORDER BY d.overdue_s DESC, d.id)
) AS p
WHERE p.place <= greatest(p.allowed, 1)

-- name: lock_due
-- In ascending id, and only what still is as it was judged: what was read, pinned or changed since
-- stays.
SELECT m.id, m.version
FROM (SELECT * FROM unnest($2::uuid[], $3::float8[], $4::timestamptz[])
          AS w (id, importance, reinforced_at)
      ORDER BY id) AS w
CROSS JOIN LATERAL (
    SELECT m.id, m.version FROM engram.memory m
    WHERE m.workspace = $1 AND m.id = w.id AND m.state = 'active' AND NOT m.pinned
      AND m.expires_at IS NULL AND m.importance = w.importance
      AND m.reinforced_at = w.reinforced_at
    FOR NO KEY UPDATE OF m
) AS m

-- name: archive
UPDATE engram.memory m SET state = 'archived', updated_at = $3
WHERE m.workspace = $1 AND m.id = ANY ($2::uuid[])

-- name: leave_earlier
-- What a run archives anew had come back since an earlier one: that one has nothing to restore.
UPDATE engram.decay_archive a SET restored_at = $3
WHERE a.workspace = $1 AND a.memory_id = ANY ($2::uuid[]) AND a.restored_at IS NULL

-- name: enter
INSERT INTO engram.decay_archive (workspace, run_id, memory_id, namespace, importance_left, archived_at)
SELECT $1, $2, w.id, w.namespace, w.importance_left, $6
FROM unnest($3::uuid[], $4::text[], $5::float8[]) AS w (id, namespace, importance_left)

-- name: lock_archived
SELECT m.id, m.version, m.state
FROM (SELECT id FROM unnest($2::uuid[]) AS w (id) ORDER BY id) AS w
CROSS JOIN LATERAL (
    SELECT m.id, m.version, m.state FROM engram.memory m
    WHERE m.workspace = $1 AND m.id = w.id AND m.state NOT IN ('deleted', 'staged')
    FOR NO KEY UPDATE OF m
) AS m

-- name: restore
-- Reinforced, too: what somebody wants back would be archived again by the next sweep.
UPDATE engram.memory m
SET state = 'active', updated_at = $3, reinforced_at = greatest(m.reinforced_at, $3)
WHERE m.workspace = $1 AND m.id = ANY ($2::uuid[]) AND m.state = 'archived'

-- name: mark_restored
UPDATE engram.decay_archive a SET restored_at = $3
WHERE a.workspace = $1 AND a.memory_id = ANY ($2::uuid[]) AND a.restored_at IS NULL
RETURNING a.run_id

-- name: archived_by
SELECT a.memory_id
FROM engram.decay_archive a
WHERE a.workspace = $1 AND a.run_id = $2 AND a.memory_id > $3 AND a.restored_at IS NULL
ORDER BY a.memory_id
LIMIT $4

-- name: archived_page
SELECT a.memory_id, a.namespace, a.importance_left, a.archived_at, a.restored_at
FROM engram.decay_archive a
WHERE a.workspace = $1 AND a.run_id = $2 AND a.memory_id > $3
ORDER BY a.memory_id
LIMIT $4

-- name: archived_of_namespaces
SELECT a.namespace, count(*) AS archived
FROM engram.decay_archive a
WHERE a.workspace = $1 AND a.run_id = $2
GROUP BY a.namespace

-- name: run_columns
r.id, r.state, r.actor, r.namespace, r.archived, r.restored, r.slowed, r.slowed_namespaces,
r.error, r.created_at, r.started_at, r.finished_at

-- name: begin_run
INSERT INTO engram.decay_run AS r (workspace, id, state, actor, namespace, lease_until, started_at)
VALUES ($1, $2, 'running', $3, $4, now() + $5::interval, now())
ON CONFLICT DO NOTHING
RETURNING {columns}

-- name: queue_run
INSERT INTO engram.decay_run AS r (workspace, id, state, actor, namespace)
VALUES ($1, $2, 'queued', $3, $4)
RETURNING {columns}

-- name: queued_run
SELECT {columns} FROM engram.decay_run r
WHERE r.workspace = $1 AND r.state = 'queued' AND r.namespace IS NOT DISTINCT FROM $2
ORDER BY r.id
LIMIT 1

-- name: take_over_run
-- One whose process is gone: it goes on under its own cap.
UPDATE engram.decay_run AS r SET lease_until = now() + $2::interval
WHERE r.workspace = $1 AND r.state = 'running' AND r.namespace IS NULL
  AND r.lease_until < now()
RETURNING {columns}

-- name: claim_run
-- What was asked for first, where nothing runs; and what its process has left.
UPDATE engram.decay_run AS r
SET state = 'running', lease_until = now() + $1::interval,
    started_at = coalesce(r.started_at, now())
FROM (SELECT q.workspace, q.id FROM engram.decay_run q
      WHERE (q.state = 'running' AND q.lease_until < now())
         OR (q.state = 'queued'
             AND NOT EXISTS (SELECT 1 FROM engram.decay_run o
                             WHERE o.workspace = q.workspace AND o.state = 'running'))
      ORDER BY q.id
      LIMIT 1
      FOR UPDATE SKIP LOCKED) AS d
WHERE r.workspace = d.workspace AND r.id = d.id
RETURNING r.workspace, {columns}

-- name: progress_run
-- Locked after the memories, like every row of a run.
UPDATE engram.decay_run r
SET archived = r.archived + $3, lease_until = now() + $4::interval
WHERE r.workspace = $1 AND r.id = $2 AND r.state = 'running'
RETURNING r.id

-- name: slow_run
UPDATE engram.decay_run r
SET slowed = r.slowed + cardinality($3::text[]),
    slowed_namespaces = (r.slowed_namespaces || $3::text[])[1:100]
WHERE r.workspace = $1 AND r.id = $2

-- name: finish_run
UPDATE engram.decay_run r
SET state = $3, error = $4, finished_at = now()
WHERE r.workspace = $1 AND r.id = $2 AND r.state = 'running'
RETURNING {columns}

-- name: count_restored
UPDATE engram.decay_run r SET restored = r.restored + c.restored
FROM (SELECT * FROM unnest($2::uuid[], $3::bigint[]) AS c (id, restored)) AS c
WHERE r.workspace = $1 AND r.id = c.id

-- name: show_run
SELECT {columns} FROM engram.decay_run r WHERE r.workspace = $1 AND r.id = $2

-- name: page_runs
SELECT {columns} FROM engram.decay_run r
WHERE r.workspace = $1 AND r.id < $2
ORDER BY r.id DESC
LIMIT $3

-- name: rules
SELECT s.workspace, s.namespace, s.is_prefix, s.half_life_days, s.floor, s.grace_days, s.enabled
FROM engram.decay_setting s
WHERE $1::uuid IS NULL OR s.workspace = $1

-- name: count_rules
SELECT count(*) FROM engram.decay_setting s WHERE s.workspace = $1

-- name: lock_rules
-- One writer of settings at a time in a workspace.
SELECT pg_advisory_xact_lock(hashtextextended('engram.decay_setting ' || $1::uuid::text, 0))

-- name: save_rule
INSERT INTO engram.decay_setting AS s
    (workspace, namespace, is_prefix, half_life_days, floor, grace_days, enabled, updated_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (workspace, namespace, is_prefix) DO UPDATE
    SET half_life_days = excluded.half_life_days, floor = excluded.floor,
        grace_days = excluded.grace_days, enabled = excluded.enabled, updated_at = now(),
        updated_by = excluded.updated_by

-- name: drop_rule
DELETE FROM engram.decay_setting s
WHERE s.workspace = $1 AND s.namespace = $2 AND s.is_prefix = $3

-- name: start_clock
INSERT INTO engram.decay_clock (seen_at) VALUES (clock_timestamp()) ON CONFLICT DO NOTHING

-- name: lock_clock
SELECT c.seen_at, c.withheld_s, clock_timestamp() AS now FROM engram.decay_clock c FOR UPDATE

-- name: set_clock
UPDATE engram.decay_clock SET seen_at = $1, withheld_s = $2

-- name: read_clock
-- Between two looks the wall clock goes on; what is withheld stays.
SELECT now() - make_interval(secs => coalesce(max(c.withheld_s), 0)) AS now,
       coalesce(max(c.withheld_s), 0) AS withheld_s
FROM engram.decay_clock c
