-- name: columns
r.id, r.state, r.actor, r.options, r.counts, r.rule_version, r.merge_cap, r.merged, r.restored,
r.error, r.started_at, r.finished_at, r.undone_at

-- name: fail_lost
-- Of a process that is gone: what it has merged stays, and can be undone.
UPDATE engram.dedup_run
SET state = 'failed', finished_at = now(),
    error = '{"code": "run_lost", "detail": "The process that worked on it is gone."}'
WHERE workspace = $1 AND state = 'running' AND lease_until < now()

-- name: begin
-- Waits for another one that begins at the same moment, and gives way to it.
INSERT INTO engram.dedup_run AS r
    (workspace, id, state, actor, options, counts, rule_version, merge_cap, lease_until)
VALUES ($1, $2, 'running', $3, $4, '{}', $5, $6, now() + $7::interval)
ON CONFLICT (workspace) WHERE state = 'running' DO NOTHING
RETURNING {columns}

-- name: running
SELECT {columns} FROM engram.dedup_run r WHERE r.workspace = $1 AND r.state = 'running'

-- name: progress
-- Counts are added up, so that several processes may work on one run.
UPDATE engram.dedup_run r
SET lease_until = now() + $4::interval,
    counts = r.counts || coalesce((
        SELECT jsonb_object_agg(n.key, coalesce((r.counts ->> n.key)::bigint, 0) + n.value::bigint)
        FROM jsonb_each_text($3::jsonb) AS n), '{}')
WHERE r.workspace = $1 AND r.id = $2 AND r.state = 'running'
RETURNING r.id

-- name: finish
UPDATE engram.dedup_run r
SET state = $3, error = $4, finished_at = now()
WHERE r.workspace = $1 AND r.id = $2 AND r.state = 'running'
RETURNING {columns}

-- name: show
SELECT {columns} FROM engram.dedup_run r WHERE r.workspace = $1 AND r.id = $2

-- name: page
-- Newest first: ids are uuid v7.
SELECT {columns} FROM engram.dedup_run r
WHERE r.workspace = $1 AND r.id < $2
ORDER BY r.id DESC
LIMIT $3

-- name: undone
UPDATE engram.dedup_run r
SET undone_at = now()
WHERE r.workspace = $1 AND r.id = $2 AND r.undone_at IS NULL
RETURNING r.restored
