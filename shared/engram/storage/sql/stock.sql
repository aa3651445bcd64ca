-- name: hold
-- The lease is sticky: who has it keeps it, so that the figures stay in one process. `next_due` moves
-- with each round, as with every sweep: when it stands still, nobody counts.
UPDATE engram.sweep
SET lease_holder = $2, lease_until = now() + $3::interval, next_due = now() + every,
    last_started = now()
WHERE name = $1 AND enabled
  AND (lease_holder IS NULL OR lease_holder = $2 OR lease_until < now())
RETURNING name

-- name: held
UPDATE engram.sweep
SET last_finished = now(), last_error = $3,
    last_duration_s = extract(epoch FROM clock_timestamp() - last_started)
WHERE name = $1 AND lease_holder = $2

-- name: release
UPDATE engram.sweep SET lease_holder = NULL, lease_until = NULL
WHERE name = $1 AND lease_holder = $2

-- name: outbox
SELECT count(*) AS lines,
       coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s
FROM engram.outbox

-- name: bulk
SELECT space, sum(cardinality(ids))::bigint AS memories,
       greatest(0, extract(epoch FROM now() - min(rung_at)))::float8 AS oldest_s
FROM engram.bulk_batch GROUP BY space

-- name: sweeps
SELECT name, extract(epoch FROM every)::float8 AS every_s, enabled, last_error,
       extract(epoch FROM last_finished)::float8 AS finished_s,
       CASE WHEN enabled AND coalesce(lease_until < now(), true)
            THEN greatest(0, extract(epoch FROM now() - next_due)) ELSE 0 END::float8 AS overdue_s
FROM engram.sweep

-- name: tables
-- From the statistics collector and the sizes of files: no row is read.
SELECT CASE WHEN s.schemaname = 'engram_vec' THEN 'vec.' ELSE '' END || s.relname AS name,
       pg_table_size(s.relid) AS table_bytes, pg_indexes_size(s.relid) AS index_bytes,
       s.n_live_tup AS live, s.n_dead_tup AS dead
FROM pg_stat_user_tables s
WHERE s.schemaname IN ('engram', 'engram_vec')

-- name: database
SELECT pg_database_size(current_database())

-- name: migrations
-- The one under way, or else the last one that ended: its end is news for a while.
SELECT target_key, phase, paused,
       (progress ->> 'rows')::float8 AS rows, (progress ->> 'missing')::float8 AS missing,
       (verdict ->> 'mismatches')::float8 AS mismatches, (verdict ->> 'overlap')::float8 AS overlap
FROM engram.migration
ORDER BY phase IN ('dual_write', 'backfill', 'verified', 'cut_over') DESC, created_at DESC
LIMIT 1

-- name: withheld
SELECT coalesce(max(withheld_s), 0)::float8 FROM engram.decay_clock

-- name: runs
-- What dedup runs of the last 7 days merged, and how much of it people have undone.
SELECT coalesce(sum(merged), 0)::bigint AS merged, coalesce(sum(restored), 0)::bigint AS restored
FROM engram.dedup_run WHERE started_at > now() - interval '7 days'

-- name: findings
SELECT (SELECT count(*) FROM engram.proposal WHERE state = 'open') AS proposals,
       (SELECT count(*) FROM engram.conflict WHERE state = 'open') AS conflicts

-- name: memories
SELECT state, count(*) AS memories FROM engram.memory GROUP BY state

-- name: failures
SELECT space, class, dead, count(*) AS memories
FROM engram.embedding_failure WHERE discarded_at IS NULL GROUP BY space, class, dead

-- name: letters
SELECT kind, code AS class, count(*) AS letters FROM engram.dead_letter GROUP BY kind, code

-- name: space
-- One hash join over both tables, as reconcile's. Active memories are current, dead or pending; what
-- is missing or stale is told beside it, whether or not it is on its way. A negative version is a
-- vector that an adapter made: it is not the memory's own.
SELECT count(*) FILTER (WHERE d.is_active AND d.is_current) AS current,
       count(*) FILTER (WHERE d.is_active AND NOT d.is_current AND f.memory_id IS NOT NULL) AS dead,
       count(*) FILTER (WHERE d.is_active AND NOT d.is_current AND f.memory_id IS NULL) AS pending,
       count(*) FILTER (WHERE d.is_active AND d.vector_version IS NULL) AS missing,
       count(*) FILTER (WHERE d.is_active AND NOT d.is_current
                          AND d.vector_version IS NOT NULL) AS stale,
       count(*) FILTER (WHERE NOT d.is_active) AS orphan,
       coalesce(greatest(0, extract(epoch FROM now() - min(d.versioned_at) FILTER (
           WHERE d.is_active AND NOT d.is_current AND f.memory_id IS NULL))), 0)::float8 AS oldest_s
FROM (
    SELECT m.id IS NOT NULL AS is_active, m.workspace, m.id, m.version, m.versioned_at,
           nullif(greatest(v.version, 0), 0) AS vector_version,
           coalesce(v.version = m.version, false) AS is_current
    FROM (
        SELECT m.workspace, m.id, m.version, m.versioned_at FROM engram.memory m
        WHERE m.state = 'active'
          AND ((SELECT p.workspaces IS NULL FROM engram.space p WHERE p.id = $1)
            OR m.workspace = ANY ((SELECT p.workspaces FROM engram.space p WHERE p.id = $1)::uuid[]))
    ) AS m
    FULL JOIN (SELECT workspace, memory_id, version FROM {vectors}) AS v
        ON v.workspace = m.workspace AND v.memory_id = m.id
) AS d
LEFT JOIN engram.embedding_failure f
    ON f.workspace = d.workspace AND f.memory_id = d.id AND f.space = $1 AND f.version = d.version
    AND f.dead
