-- name: create
INSERT INTO engram.import_job (workspace, id, state, actor, options, format, report)
VALUES ($1, $2, 'receiving', $3, $4, $5, $6)

-- name: lock_workspace
-- Whoever counts the jobs of a workspace and adds one is alone while it does.
SELECT pg_advisory_xact_lock(hashtextextended('import ' || $1::uuid::text, 0))

-- name: open_jobs
SELECT count(*) FROM engram.import_job
WHERE workspace = $1
  AND (state IN ('queued', 'running')
       OR state = 'receiving' AND updated_at > now() - interval '5 minutes')

-- name: chunks_may_wait
-- The commit that queues the job syncs the log with all that came before it.
SELECT set_config('synchronous_commit', 'off', true)

-- name: append
INSERT INTO engram.import_chunk (workspace, job_id, part, data) VALUES ($1, $2, $3, $4)

-- name: received
UPDATE engram.import_job SET body_bytes = $3, updated_at = now()
WHERE workspace = $1 AND id = $2 AND state = 'receiving'
RETURNING id

-- name: abandon
UPDATE engram.import_job SET updated_at = '-infinity'
WHERE workspace = $1 AND id = $2 AND state = 'receiving'

-- name: queue
UPDATE engram.import_job SET state = 'queued', body_bytes = $3, updated_at = now()
WHERE workspace = $1 AND id = $2 AND state = 'receiving'
RETURNING id

-- name: chunk
SELECT data FROM engram.import_chunk WHERE workspace = $1 AND job_id = $2 AND part = $3

-- name: claim
-- The oldest job that waits or whose runner fell silent, of a workspace where no other runs; the
-- unique index refuses a second one that is claimed at the same moment.
UPDATE engram.import_job j
SET state = 'running', lease_holder = $1, lease_until = now() + $2::interval,
    started_at = coalesce(j.started_at, now()), updated_at = now(),
    attempts = CASE WHEN j.tried_from = j.position THEN j.attempts + 1 ELSE 1 END,
    tried_from = j.position
FROM (SELECT o.workspace, o.id
      FROM engram.import_job o
      WHERE NOT o.cleaned
        AND (o.state = 'running' AND o.lease_until < now()
             OR o.state = 'queued' AND (o.lease_until IS NULL OR o.lease_until < now())
                AND NOT EXISTS (
                    SELECT 1 FROM engram.import_job r
                    WHERE r.workspace = o.workspace AND r.state = 'running'))
      ORDER BY o.created_at
      LIMIT 1
      FOR UPDATE SKIP LOCKED) AS d
WHERE j.workspace = d.workspace AND j.id = d.id
RETURNING j.*

-- name: extend
UPDATE engram.import_job SET lease_until = now() + $4::interval
WHERE workspace = $1 AND id = $2 AND lease_holder = $3 AND state = 'running'
RETURNING id

-- name: release
-- Back into the queue, for another runner or a later try.
UPDATE engram.import_job
SET state = 'queued', lease_holder = NULL, lease_until = now() + $4::interval
WHERE workspace = $1 AND id = $2 AND lease_holder = $3 AND state = 'running'

-- name: progress
-- In the transaction of the rows it counts, and only by the runner that holds the lease and went on
-- from this very position: what a late or a second runner has written is rolled back with it.
UPDATE engram.import_job
SET position = $5, read_bytes = greatest(read_bytes, $6), report = $7, format = $8,
    low_id = least(low_id, $9), high_id = greatest(high_id, $10), updated_at = now(),
    lease_until = now() + $11::interval
WHERE workspace = $1 AND id = $2 AND lease_holder = $3 AND position = $4 AND state = 'running'
RETURNING id

-- name: finish
UPDATE engram.import_job
SET state = $4, report = $5, format = $6, error = $7, archived = $8, finished_at = now(),
    updated_at = now(), read_bytes = CASE WHEN $4 = 'done' THEN body_bytes ELSE read_bytes END
WHERE workspace = $1 AND id = $2 AND lease_holder = $3 AND state = 'running'
RETURNING id

-- name: cancel
UPDATE engram.import_job
SET state = 'cancelled', finished_at = now(), updated_at = now()
WHERE workspace = $1 AND id = $2 AND state IN ('queued', 'running')
RETURNING id

-- name: show
SELECT * FROM engram.import_job WHERE workspace = $1 AND id = $2 AND state <> 'receiving'

-- name: lock_job
SELECT * FROM engram.import_job
WHERE workspace = $1 AND id = $2 AND state <> 'receiving'
FOR NO KEY UPDATE

-- name: page
SELECT * FROM engram.import_job
WHERE workspace = $1 AND id < $2 AND state <> 'receiving'
ORDER BY id DESC
LIMIT $3

-- name: ahead
-- How many jobs of the workspace go first.
SELECT count(*) FROM engram.import_job
WHERE workspace = $1 AND state IN ('queued', 'running') AND created_at < $2

-- name: add_errors
INSERT INTO engram.import_error
    (workspace, job_id, index, line, external_id, code, pointer, detail)
SELECT $1, $2, * FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                             $8::text[])

-- name: errors
SELECT index, line, external_id, code, pointer, detail FROM engram.import_error
WHERE workspace = $1 AND job_id = $2 AND index > $3
ORDER BY index
LIMIT $4

-- name: embedded
-- Memories that a job has stored or changed and that are live now: all, those with a current
-- vector, and those that were given up.
SELECT count(*) AS live,
       count(*) FILTER (WHERE v.version = m.version) AS embedded,
       count(*) FILTER (WHERE v.version IS DISTINCT FROM m.version AND f.dead) AS dead
FROM (
    SELECT m.id, m.version FROM engram.memory m
    WHERE m.workspace = $1 AND m.id BETWEEN $3 AND $4 AND m.versioned_by = $5
      AND m.state = 'active'
    UNION
    SELECT m.id, m.version
    FROM engram.import_item i
    CROSS JOIN LATERAL (
        SELECT m.id, m.version FROM engram.memory m
        WHERE m.workspace = $1 AND m.id = i.memory_id AND m.state = 'active'
        OFFSET 0
    ) AS m
    WHERE i.workspace = $1 AND i.job_id = $2 AND i.role = 'updated'
) AS m
LEFT JOIN LATERAL (
    SELECT v.version FROM {vectors} v WHERE v.workspace = $1 AND v.memory_id = m.id OFFSET 0
) AS v ON true
LEFT JOIN LATERAL (
    SELECT f.dead FROM engram.embedding_failure f
    WHERE f.workspace = $1 AND f.memory_id = m.id AND f.space = $6 AND f.version = m.version
    OFFSET 0
) AS f ON true

-- name: marks
SELECT key, value FROM engram.import_mark
WHERE workspace = $1 AND job_id = $2 AND key = ANY ($3::bytea[])

-- name: set_marks
INSERT INTO engram.import_mark (workspace, job_id, key, value)
SELECT $1, $2, * FROM unnest($3::bytea[], $4::bytea[])
ON CONFLICT (workspace, job_id, key) DO UPDATE SET value = excluded.value

-- name: would_archive
-- What a take-over would archive: the scope, less the old rows that the new set keeps.
SELECT (SELECT count(*) FROM engram.memory m
        WHERE m.workspace = $1 AND m.state = 'active'
          AND (m.namespace = $3 OR $3::text IS NULL AND m.source = $4))
     - (SELECT count(*) FROM engram.import_mark k
        WHERE k.workspace = $1 AND k.job_id = $2 AND k.value = '\x01')

-- name: archive_replaced
WITH old AS (
    SELECT m.id FROM engram.memory m
    WHERE m.workspace = $1 AND m.state = 'active'
      AND (m.namespace = $3 OR $3::text IS NULL AND m.source = $4)
      AND NOT EXISTS (
          SELECT 1 FROM engram.import_item i
          WHERE i.workspace = $1 AND i.job_id = $2 AND i.memory_id = m.id)
    ORDER BY m.id
    FOR NO KEY UPDATE OF m
)
UPDATE engram.memory m
SET state = 'archived', updated_at = $5
FROM old
WHERE m.workspace = $1 AND m.id = old.id
RETURNING m.id, m.version

-- name: note_archived
INSERT INTO engram.import_item (workspace, job_id, memory_id, role)
SELECT $1, $2, i.id, 'archived' FROM unnest($3::uuid[]) AS i (id)
ON CONFLICT (workspace, job_id, memory_id) DO UPDATE SET role = 'archived'

-- name: note_names
UPDATE engram.import_item i
SET named_before = a.memory_id
FROM engram.memory m
JOIN engram.memory_alias a
    ON a.workspace = m.workspace AND a.source = m.source AND a.external_id = m.external_id
WHERE i.workspace = $1 AND i.job_id = $2 AND i.role = 'staged'
  AND m.workspace = $1 AND m.id = i.memory_id

-- name: activate_staged
WITH staged AS (
    SELECT m.id, i.becomes
    FROM engram.import_item i
    JOIN engram.memory m ON m.workspace = i.workspace AND m.id = i.memory_id
    WHERE i.workspace = $1 AND i.job_id = $2 AND i.role = 'staged' AND m.state = 'staged'
    ORDER BY m.id
    FOR NO KEY UPDATE OF m
)
UPDATE engram.memory m
SET state = s.becomes, versioned_at = $3
FROM staged s
WHERE m.workspace = $1 AND m.id = s.id
RETURNING m.id, m.version, m.state

-- name: take_names
INSERT INTO engram.memory_alias AS a (workspace, source, external_id, memory_id)
SELECT m.workspace, m.source, m.external_id, m.id
FROM engram.import_item i
JOIN engram.memory m ON m.workspace = i.workspace AND m.id = i.memory_id
WHERE i.workspace = $1 AND i.job_id = $2 AND i.role = 'staged' AND m.external_id IS NOT NULL
ORDER BY m.source, m.external_id
ON CONFLICT (workspace, source, external_id) DO UPDATE SET memory_id = excluded.memory_id

-- name: born_merged
SELECT m.id, m.merged_into
FROM engram.import_item i
JOIN engram.memory m ON m.workspace = i.workspace AND m.id = i.memory_id
WHERE i.workspace = $1 AND i.job_id = $2 AND i.role = 'staged' AND m.state = 'merged'
  AND m.merged_into IS NOT NULL

-- name: replaced_since
-- Whether a later replacement, not undone, has archived what this one brought.
SELECT EXISTS (
    SELECT 1
    FROM engram.import_item a
    JOIN engram.import_job j
        ON j.workspace = a.workspace AND j.id = a.job_id AND j.restored_at IS NULL
    JOIN engram.import_item s
        ON s.workspace = a.workspace AND s.job_id = $2 AND s.memory_id = a.memory_id
       AND s.role = 'staged'
    WHERE a.workspace = $1 AND a.job_id <> $2 AND a.role = 'archived')

-- name: archive_taken
WITH taken AS (
    SELECT m.id
    FROM engram.import_item i
    JOIN engram.memory m ON m.workspace = i.workspace AND m.id = i.memory_id
    WHERE i.workspace = $1 AND i.job_id = $2 AND i.role = 'staged' AND m.state = 'active'
    ORDER BY m.id
    FOR NO KEY UPDATE OF m
)
UPDATE engram.memory m
SET state = 'archived', updated_at = $3
FROM taken t
WHERE m.workspace = $1 AND m.id = t.id
RETURNING m.id, m.version

-- name: activate_archived
WITH archived AS (
    SELECT m.id
    FROM engram.import_item i
    JOIN engram.memory m ON m.workspace = i.workspace AND m.id = i.memory_id
    WHERE i.workspace = $1 AND i.job_id = $2 AND i.role = 'archived' AND m.state = 'archived'
    ORDER BY m.id
    FOR NO KEY UPDATE OF m
)
UPDATE engram.memory m
SET state = 'active', updated_at = $3
FROM archived a
WHERE m.workspace = $1 AND m.id = a.id
RETURNING m.id, m.version

-- name: return_names
UPDATE engram.memory_alias a
SET memory_id = i.named_before
FROM engram.import_item i
JOIN engram.memory m ON m.workspace = i.workspace AND m.id = i.memory_id
JOIN engram.memory b ON b.workspace = i.workspace AND b.id = i.named_before
WHERE i.workspace = $1 AND i.job_id = $2 AND i.role = 'staged' AND i.named_before IS NOT NULL
  AND b.state <> 'deleted'
  AND a.workspace = $1 AND a.source = m.source AND a.external_id = m.external_id
  AND a.memory_id = m.id

-- name: restored
UPDATE engram.import_job SET restored_at = $3, cleaned = false, updated_at = $3
WHERE workspace = $1 AND id = $2

-- name: uncleaned
-- Ended jobs whose body still lies here, and bodies that stopped coming.
SELECT workspace, id, state FROM engram.import_job
WHERE NOT cleaned
  AND (state IN ('done', 'failed', 'cancelled')
       OR state = 'receiving' AND updated_at < now() - $1::interval)
ORDER BY created_at
LIMIT $2

-- name: drop_chunks
DELETE FROM engram.import_chunk c
USING (SELECT part FROM engram.import_chunk
       WHERE workspace = $1 AND job_id = $2 ORDER BY part LIMIT $3) AS p
WHERE c.workspace = $1 AND c.job_id = $2 AND c.part = p.part

-- name: drop_marks
DELETE FROM engram.import_mark k
USING (SELECT key FROM engram.import_mark WHERE workspace = $1 AND job_id = $2 LIMIT $3) AS p
WHERE k.workspace = $1 AND k.job_id = $2 AND k.key = p.key

-- name: drop_staged
-- Never seen by anybody, so nothing is left of it: not even a tombstone.
WITH unseen AS (
    SELECT m.id
    FROM engram.import_item i
    JOIN engram.memory m ON m.workspace = i.workspace AND m.id = i.memory_id
    WHERE i.workspace = $1 AND i.job_id = $2 AND i.role = 'staged' AND m.state = 'staged'
    ORDER BY m.id
    LIMIT $3
    FOR UPDATE OF m
), gone AS (
    DELETE FROM engram.memory m USING unseen u WHERE m.workspace = $1 AND m.id = u.id
    RETURNING m.id
)
DELETE FROM engram.import_item i USING gone g
WHERE i.workspace = $1 AND i.job_id = $2 AND i.memory_id = g.id

-- name: silent
-- What a take-over, or undoing it, has archived: a page of it, locked so that none comes back
-- while its vectors are dropped.
SELECT m.id
FROM engram.import_item i
JOIN engram.memory m ON m.workspace = i.workspace AND m.id = i.memory_id
WHERE i.workspace = $1 AND i.job_id = $2 AND i.role IN ('archived', 'staged')
  AND m.state = 'archived' AND m.id > $3
ORDER BY m.id
LIMIT $4
FOR SHARE OF m

-- name: cleaned
UPDATE engram.import_job SET cleaned = true WHERE workspace = $1 AND id = $2 AND NOT cleaned

-- name: forget
DELETE FROM engram.import_job WHERE workspace = $1 AND id = $2 AND state = 'receiving'

-- name: expired
SELECT workspace, id FROM engram.import_job
WHERE cleaned AND finished_at < now() - $1::interval
LIMIT $2

-- name: drop_errors
DELETE FROM engram.import_error WHERE workspace = $1 AND job_id = $2

-- name: drop_items
DELETE FROM engram.import_item WHERE workspace = $1 AND job_id = $2

-- name: drop_job
DELETE FROM engram.import_job WHERE workspace = $1 AND id = $2 AND cleaned
