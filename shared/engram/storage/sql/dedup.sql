-- name: dirty
-- Namespaces that read this space and have a vector that was not compared yet by these rules.
SELECT n.workspace, n.name AS namespace, d.compared_seq, v.newest_seq
FROM engram.namespace n
JOIN engram.workspace w ON w.id = n.workspace
CROSS JOIN LATERAL (
    SELECT CASE WHEN n.dedup_mark = $2 THEN n.dedup_watermark ELSE 0 END AS compared_seq
) AS d
CROSS JOIN LATERAL (
    SELECT max(v.seq) AS newest_seq FROM {vectors} v
    WHERE v.workspace = n.workspace AND v.namespace = n.name
    OFFSET 0
) AS v
WHERE coalesce(n.read_space, w.read_space) = $1 AND v.newest_seq > d.compared_seq

-- name: dirty_workspaces
SELECT DISTINCT d.workspace FROM ({dirty}) AS d

-- name: start_plan
-- Whoever comes first plans a run; the others find its namespaces.
UPDATE engram.dedup_run SET planned_at = now()
WHERE workspace = $1 AND id = $2 AND state = 'running' AND planned_at IS NULL
RETURNING id

-- name: plan
-- horizon: writers that drew a seq up to newest_seq before now have a lower transaction id.
INSERT INTO engram.dedup_task (
    workspace, run_id, namespace, space, compared_seq, newest_seq, horizon, row_count)
SELECT d.workspace, $4, d.namespace, $1, CASE WHEN $6 THEN 0 ELSE d.compared_seq END,
       d.newest_seq, pg_snapshot_xmax(pg_current_snapshot()), c.row_count
FROM ({dirty}) AS d
CROSS JOIN LATERAL (
    SELECT count(*) AS row_count FROM {vectors} v
    WHERE v.workspace = d.workspace AND v.namespace = d.namespace
    OFFSET 0
) AS c
WHERE d.workspace = $3 AND ($5::text IS NULL OR d.namespace = $5)

-- name: open_runs
-- Of all workspaces, those longest without anybody first.
SELECT r.workspace, r.id FROM engram.dedup_run r WHERE r.state = 'running' ORDER BY r.lease_until

-- name: claim
-- As many namespaces of one space as hold about $5 rows; at least one.
WITH free AS MATERIALIZED (
    SELECT t.namespace, t.space, t.row_count
    FROM engram.dedup_task t
    WHERE t.workspace = $1 AND t.run_id = $2 AND NOT t.done AND t.lease_until < now()
    ORDER BY t.space, t.namespace
    LIMIT 500
    FOR UPDATE SKIP LOCKED
), chosen AS (
    SELECT f.namespace, f.space, min(f.space) OVER () AS first_space,
           sum(f.row_count) OVER (ORDER BY f.space, f.namespace) - f.row_count AS rows_before
    FROM free f
)
UPDATE engram.dedup_task t
SET lease_holder = $3, lease_until = now() + $4::interval
FROM chosen c
WHERE t.workspace = $1 AND t.run_id = $2 AND t.namespace = c.namespace
  AND c.space = c.first_space AND c.rows_before < $5
RETURNING t.namespace, t.space, t.compared_seq, t.newest_seq, t.row_count, t.merges

-- name: settled_seqs
-- Whether everybody who may have drawn a seq below those that were planned has ended.
SELECT NOT EXISTS (
    SELECT 1 FROM engram.dedup_task t
    WHERE t.workspace = $1 AND t.run_id = $2 AND t.lease_holder = $3
      AND t.horizon > pg_snapshot_xmin(pg_current_snapshot()))

-- name: extend
UPDATE engram.dedup_task t SET lease_until = now() + $4::interval
WHERE t.workspace = $1 AND t.run_id = $2 AND t.lease_holder = $3 AND NOT t.done
RETURNING t.namespace

-- name: release
UPDATE engram.dedup_task t SET lease_holder = NULL, lease_until = '-infinity'
WHERE t.workspace = $1 AND t.run_id = $2 AND t.lease_holder = $3 AND NOT t.done

-- name: vectors
-- Rows of one length each, in binary: the n-th namespace asked for, a digest of the owner ids, the
-- memory in its version, and its vector. What is not live, or waits for another vector, is left out.
SELECT n.place::int4, md5(row(m.user_id, m.agent_id, m.session_id, m.app_id)::text)::uuid, m.id,
       m.version, v.seq, v.embedding
FROM unnest($2::text[]) WITH ORDINALITY AS n (name, place)
JOIN {vectors} v ON v.workspace = $1 AND v.namespace = n.name
JOIN engram.memory m ON m.workspace = $1 AND m.id = v.memory_id
WHERE m.workspace = $1 AND m.state = 'active' AND m.version = v.version
  AND (m.expires_at IS NULL OR m.expires_at > now())
ORDER BY n.place, v.seq

-- name: fresh_counts
-- How many vectors of each namespace were not compared yet; of the index alone.
SELECT n.place::int4, c.fresh
FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS n (name, compared_seq, place)
CROSS JOIN LATERAL (
    SELECT count(*) AS fresh FROM {vectors} v
    WHERE v.workspace = $1 AND v.namespace = n.name AND v.seq > n.compared_seq
    OFFSET 0
) AS c
ORDER BY n.place

-- name: scope_sizes
-- Live vectors by namespace and owner ids, and how many of them were not compared yet.
SELECT n.place::int4, md5(row(m.user_id, m.agent_id, m.session_id, m.app_id)::text)::uuid AS owner,
       count(*) AS row_count, count(*) FILTER (WHERE v.seq > n.compared_seq) AS fresh
FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS n (name, compared_seq, place)
JOIN {vectors} v ON v.workspace = $1 AND v.namespace = n.name
JOIN engram.memory m ON m.workspace = $1 AND m.id = v.memory_id
WHERE m.workspace = $1 AND m.state = 'active' AND m.version = v.version
  AND (m.expires_at IS NULL OR m.expires_at > now())
GROUP BY 1, 2

-- name: near_vectors
-- As vectors, but only those within reach of one that was not compared yet, itself among them. Exact:
-- every distance is computed, no index of vectors is asked. A distance that is no number passes
-- nothing, because NaN is above all numbers.
WITH wanted AS MATERIALIZED (
    SELECT n.* FROM unnest($2::text[], $3::bigint[], $4::float8[])
        WITH ORDINALITY AS n (name, compared_seq, reach, place)
), fresh AS MATERIALIZED (
    SELECT n.place, n.reach, v.embedding
    FROM wanted n
    JOIN {vectors} v ON v.workspace = $1 AND v.namespace = n.name AND v.seq > n.compared_seq
    JOIN engram.memory m ON m.workspace = $1 AND m.id = v.memory_id
    WHERE m.state = 'active' AND m.version = v.version
      AND (m.expires_at IS NULL OR m.expires_at > now())
)
SELECT n.place::int4, md5(row(m.user_id, m.agent_id, m.session_id, m.app_id)::text)::uuid, m.id,
       m.version, v.seq, v.embedding
FROM wanted n
JOIN {vectors} v ON v.workspace = $1 AND v.namespace = n.name
JOIN engram.memory m ON m.workspace = $1 AND m.id = v.memory_id
WHERE m.state = 'active' AND m.version = v.version
  AND (m.expires_at IS NULL OR m.expires_at > now())
  AND EXISTS (SELECT 1 FROM fresh f
              WHERE f.place = n.place AND f.embedding <=> v.embedding <= f.reach)
ORDER BY n.place, v.seq

-- name: texts
SELECT m.id, m.version, m.content, m.metadata, m.importance, m.created_at, m.pinned
FROM unnest($2::uuid[]) AS w (id)
CROSS JOIN LATERAL (
    SELECT * FROM engram.memory m WHERE m.workspace = $1 AND m.id = w.id AND m.state = 'active'
    OFFSET 0
) AS m

-- name: decided_on
-- Which of these memories a person has said something about: a rejected proposal, a resolved
-- conflict, a merge that was undone. Which pairs that settles is asked of findings.
SELECT w.id
FROM unnest($2::uuid[]) AS w (id)
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.proposal f
    WHERE f.workspace = $1 AND f.low = w.id AND f.state = 'rejected'
    UNION ALL
    SELECT 1 FROM engram.proposal f
    WHERE f.workspace = $1 AND f.high = w.id AND f.state = 'rejected'
    UNION ALL
    SELECT 1 FROM engram.conflict f
    WHERE f.workspace = $1 AND f.low = w.id AND f.state = 'resolved'
    UNION ALL
    SELECT 1 FROM engram.conflict f
    WHERE f.workspace = $1 AND f.high = w.id AND f.state = 'resolved'
    UNION ALL
    SELECT 1 FROM engram.merge_member b
    WHERE b.workspace = $1 AND b.memory_id = w.id AND b.undone_by IS NOT NULL
    UNION ALL
    SELECT 1 FROM engram.merge g
    JOIN engram.merge_member b ON b.workspace = $1 AND b.merge_id = g.id
    WHERE g.workspace = $1 AND g.survivor = w.id AND b.undone_by IS NOT NULL
    LIMIT 1
) AS s

-- name: keep_merges
UPDATE engram.dedup_task t SET merges = $5::jsonb
WHERE t.workspace = $1 AND t.run_id = $2 AND t.namespace = $3 AND t.lease_holder = $4

-- name: task_done
UPDATE engram.dedup_task t SET done = true, merges = NULL
WHERE t.workspace = $1 AND t.run_id = $2 AND t.namespace = $3 AND t.lease_holder = $4 AND NOT t.done
RETURNING t.namespace

-- name: advance
UPDATE engram.namespace n SET dedup_watermark = $3, dedup_mark = $4
WHERE n.workspace = $1 AND n.name = $2

-- name: preview
INSERT INTO engram.dedup_preview (workspace, run_id, namespace, survivor, members)
SELECT $1, $2, $3, p.survivor, p.members::uuid[]
FROM unnest($4::uuid[], $5::text[]) AS p (survivor, members)
ON CONFLICT (workspace, run_id, survivor) DO NOTHING

-- name: preview_page
-- The first few members: a group may have thousands.
SELECT p.survivor, p.namespace, p.members[1:20] AS members, cardinality(p.members) AS member_count
FROM engram.dedup_preview p
WHERE p.workspace = $1 AND p.run_id = $2 AND p.survivor > $3
ORDER BY p.survivor
LIMIT $4

-- name: contents
SELECT m.id, m.content FROM engram.memory m
WHERE m.workspace = $1 AND m.id = ANY ($2::uuid[]) AND m.state NOT IN ('deleted', 'staged')

-- name: left
SELECT count(*) FROM engram.dedup_task t
WHERE t.workspace = $1 AND t.run_id = $2 AND NOT t.done

-- name: held
SELECT coalesce((r.counts ->> 'namespaces_held')::bigint, 0) FROM engram.dedup_run r
WHERE r.workspace = $1 AND r.id = $2

-- name: clear_tasks
DELETE FROM engram.dedup_task t
USING engram.dedup_run r
WHERE r.workspace = t.workspace AND r.id = t.run_id AND r.state <> 'running'

-- name: clear_previews
DELETE FROM engram.dedup_preview p
USING engram.dedup_run r
WHERE r.workspace = p.workspace AND r.id = p.run_id AND r.started_at < now() - interval '30 days'

-- name: standing
-- entered: it is, or was, what a migration moves to; then nothing is merged before it is calibrated.
SELECT s.key, s.merge_from, s.propose_from,
       EXISTS (SELECT 1 FROM engram.migration g WHERE g.target_space = s.id) AS entered
FROM engram.space s WHERE s.id = $1

-- name: uncalibrated
-- Spaces that migrations brought, that somebody reads, and that have no thresholds of their own.
SELECT s.id FROM engram.space s
WHERE s.merge_from IS NULL
  AND EXISTS (SELECT 1 FROM engram.migration g WHERE g.target_space = s.id)
  AND (EXISTS (SELECT 1 FROM engram.workspace w WHERE w.read_space = s.id)
       OR EXISTS (SELECT 1 FROM engram.namespace n WHERE n.read_space = s.id))
ORDER BY s.id

-- name: calibrated
-- What was set by hand meanwhile stays.
UPDATE engram.space SET merge_from = $2, propose_from = $3
WHERE id = $1 AND merge_from IS NULL AND propose_from IS NULL
RETURNING id

-- name: is_planned
SELECT planned_at IS NOT NULL FROM engram.dedup_run WHERE workspace = $1 AND id = $2

-- name: reading
-- Which of these namespaces read this space now.
SELECT n.name FROM engram.namespace n
JOIN engram.workspace w ON w.id = n.workspace
WHERE n.workspace = $1 AND n.name = ANY ($2::text[]) AND coalesce(n.read_space, w.read_space) = $3

-- name: set_thresholds
UPDATE engram.space SET merge_from = $2, propose_from = $3 WHERE key = $1 RETURNING id

-- name: planned
SELECT count(*) AS namespaces, coalesce(sum(t.row_count), 0)::bigint AS memories
FROM engram.dedup_task t WHERE t.workspace = $1 AND t.run_id = $2
