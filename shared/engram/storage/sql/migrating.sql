-- name: create
INSERT INTO engram.migration (id, source_space, target_space, phase, plan, source_key, target_key,
                              workspaces, home, actor, options, phases)
VALUES ($1, $2, $3, 'planned', $4, $5, $6, $7::uuid[], $8, $9, $10,
        jsonb_build_object('planned', now()))

-- name: read
SELECT id, source_space, target_space, phase, paused, plan, created_at, updated_at, source_key,
       target_key, target_made, workspaces, home, actor, options, wish, progress, verdict, error,
       phases, leased_until > now() AS held
FROM engram.migration
WHERE id = $1

-- name: page
SELECT id, source_space, target_space, phase, paused, plan, created_at, updated_at, source_key,
       target_key, target_made, workspaces, home, actor, options, wish, progress, verdict, error,
       phases, leased_until > now() AS held
FROM engram.migration
WHERE id < $1
ORDER BY id DESC
LIMIT $2

-- name: under_way
SELECT id FROM engram.migration
WHERE phase IN ('dual_write', 'backfill', 'verified', 'cut_over')

-- name: claim
-- What has something to do: a wish, or a backfill that goes on. One holder at a time, by lease.
UPDATE engram.migration m
SET lease = $1, leased_until = now() + $2::interval
FROM (
    SELECT id FROM engram.migration
    WHERE (leased_until <= now() OR lease = $1)
      AND phase NOT IN ('released', 'aborted')
      AND (wish IS NOT NULL OR phase IN ('dual_write', 'backfill'))
    ORDER BY wish IS NULL, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
) AS c
WHERE m.id = c.id
RETURNING m.id

-- name: extend
UPDATE engram.migration SET leased_until = now() + $3::interval
WHERE id = $1 AND lease = $2 AND leased_until > now()
RETURNING id

-- name: give_back
UPDATE engram.migration SET leased_until = '-infinity' WHERE id = $1 AND lease = $2

-- name: lock
SELECT phase, paused, wish FROM engram.migration WHERE id = $1 FOR UPDATE

-- name: wish
UPDATE engram.migration SET wish = $2, error = NULL, updated_at = now() WHERE id = $1

-- name: fulfil
-- Only the wish that was done: another one may have been made meanwhile.
UPDATE engram.migration SET wish = NULL, error = $3, updated_at = now()
WHERE id = $1 AND wish->>'at' = $2

-- name: fail
UPDATE engram.migration SET error = $2, updated_at = now() WHERE id = $1

-- name: pause
UPDATE engram.migration SET paused = $2, updated_at = now() WHERE id = $1 AND paused <> $2

-- name: options
UPDATE engram.migration SET options = options || $2, updated_at = now() WHERE id = $1

-- name: progress
UPDATE engram.migration SET progress = $2, updated_at = now() WHERE id = $1

-- name: target
UPDATE engram.migration SET target_space = $2, target_made = $3, updated_at = now() WHERE id = $1

-- name: enter
-- By the clock, not by when the transaction began: what was written before the target's durable was
-- made has no bell there, and must not be taken for being on its way.
UPDATE engram.migration
SET phase = $2, phases = phases || jsonb_build_object($2::text, clock_timestamp()),
    updated_at = now()
WHERE id = $1 AND phase = $3

-- name: insert_outbox
INSERT INTO engram.outbox (uuid, workspace, subject, payload) VALUES ($1, $2, $3, $4)

-- name: states
SELECT state, count(*) AS namespaces
FROM engram.migration_namespace
WHERE migration = $1
  AND ($2::uuid[] IS NULL OR (workspace, namespace) IN (
      SELECT * FROM unnest($2::uuid[], $3::text[]) AS n (workspace, namespace)))
GROUP BY state

-- name: namespaces
SELECT workspace, namespace, state, rows, reads, missing, dead, hint, verdict, updated_at
FROM engram.migration_namespace
WHERE migration = $1 AND ($2::text[] IS NULL OR state = ANY ($2))
  AND (workspace, namespace) > ($3::uuid, $4::text)
ORDER BY workspace, namespace
LIMIT $5

-- name: reading
-- How many workspaces and namespaces read a space.
SELECT (SELECT count(*) FROM engram.workspace WHERE read_space = $1)
     + (SELECT count(*) FROM engram.namespace WHERE read_space = $1) AS readers

-- name: loading
-- Spaces that a backfill is filling: their indexes are built after the load.
SELECT target_space FROM engram.migration
WHERE phase IN ('dual_write', 'backfill') AND target_space IS NOT NULL
  AND NOT coalesce((progress->>'loaded')::bool, false)

-- name: filling
-- Spaces whose missing vectors are the migrator's to find.
SELECT target_space FROM engram.migration
WHERE phase IN ('dual_write', 'backfill') AND target_space IS NOT NULL

-- name: next
-- Namespaces that have not been walked to their end, locked: whoever else drives waits, and then
-- goes on from the hint that was left.
SELECT n.workspace, n.namespace, n.hint
FROM engram.migration_namespace n
WHERE n.migration = $1 AND n.state IN ('waiting', 'backfilling')
  AND n.hint IS DISTINCT FROM 'ffffffff-ffff-ffff-ffff-ffffffffffff'
ORDER BY n.state = 'waiting',
         CASE WHEN $2::text = 'most_read' THEN -n.reads ELSE n.rows END, n.rows,
         n.workspace, n.namespace
LIMIT $3
FOR UPDATE OF n

-- name: going
-- Queueing needs a backfill that goes on; the lock keeps a pause or an abort waiting until commit.
SELECT 1 FROM engram.migration WHERE id = $1 AND phase = 'backfill' AND NOT paused FOR SHARE

-- name: worklist
-- The next $5 memories of a namespace after the hint, and which of them nothing accounts for: no
-- current vector, not in the queue, no failure of this version, and not so young that its bell is
-- still under way. LATERAL … OFFSET 0 fixes the plan (see write.sql).
WITH queued AS MATERIALIZED (
    SELECT unnest(b.ids) AS id FROM engram.bulk_batch b WHERE b.space = $1 AND b.workspace = $2
), page AS MATERIALIZED (
    SELECT m.id, m.version, m.state, m.versioned_at
    FROM engram.memory m
    WHERE m.workspace = $2 AND m.namespace = $3 AND m.id > $4
    ORDER BY m.id
    LIMIT $5
), lacking AS (
    SELECT p.id
    FROM page p
    LEFT JOIN LATERAL (
        SELECT v.version FROM {vectors} v WHERE v.workspace = $2 AND v.memory_id = p.id
        OFFSET 0
    ) AS v ON true
    LEFT JOIN LATERAL (
        SELECT true AS known FROM engram.embedding_failure f
        WHERE f.workspace = $2 AND f.memory_id = p.id AND f.space = $1 AND f.version = p.version
        OFFSET 0
    ) AS f ON true
    WHERE p.state = 'active' AND v.version IS DISTINCT FROM p.version
      AND NOT (p.versioned_at >= $6 AND p.versioned_at > now() - $7::interval)
      AND f.known IS NULL AND p.id NOT IN (SELECT id FROM queued)
)
SELECT (SELECT count(*) FROM page)::int AS scanned,
       (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last,
       coalesce((SELECT array_agg(id ORDER BY id) FROM lacking), '{}') AS missing

-- name: walked
UPDATE engram.migration_namespace
SET state = 'backfilling', hint = $4, updated_at = now()
WHERE migration = $1 AND workspace = $2 AND namespace = $3

-- name: count
-- Every namespace of the migration, by one hash join: rows, vectors that are missing, and of those
-- what is dead, and what nothing accounts for. New namespaces join; what has not changed is not
-- written. A namespace is complete when nothing but dead letters is open, and goes back to be walked
-- again when something was lost, whatever it was before, unless it has been cut over.
WITH queued AS MATERIALIZED (
    SELECT b.workspace, unnest(b.ids) AS id FROM engram.bulk_batch b WHERE b.space = $2
), counted AS (
    SELECT m.workspace, m.namespace, count(*) AS rows, sum(m.access_count) AS reads,
           count(*) FILTER (WHERE m.lacks) AS missing,
           count(*) FILTER (WHERE m.lacks AND f.dead) AS dead,
           count(*) FILTER (WHERE m.lacks AND NOT coalesce(f.dead, false) AND NOT m.young) AS open,
           count(*) FILTER (WHERE m.lacks AND f.memory_id IS NULL AND NOT m.young
                              AND q.id IS NULL) AS lost
    FROM (
        SELECT m.workspace, m.namespace, m.id, m.version, m.access_count,
               v.version IS DISTINCT FROM m.version AS lacks,
               m.versioned_at >= $4 AND m.versioned_at > now() - $5::interval AS young
        FROM engram.memory m
        LEFT JOIN {vectors} v ON v.workspace = m.workspace AND v.memory_id = m.id
        WHERE m.state = 'active' AND ($3::uuid[] IS NULL OR m.workspace = ANY ($3))
    ) AS m
    LEFT JOIN engram.embedding_failure f
        ON m.lacks AND f.workspace = m.workspace AND f.memory_id = m.id AND f.space = $2
        AND f.version = m.version
    LEFT JOIN queued q ON m.lacks AND q.workspace = m.workspace AND q.id = m.id
    GROUP BY m.workspace, m.namespace
), named AS (
    SELECT n.workspace, n.name AS namespace, coalesce(c.rows, 0) AS rows,
           coalesce(c.reads, 0) AS reads, coalesce(c.missing, 0) AS missing,
           coalesce(c.dead, 0) AS dead, coalesce(c.open, 0) AS open, coalesce(c.lost, 0) AS lost
    FROM engram.namespace n
    LEFT JOIN counted c ON c.workspace = n.workspace AND c.namespace = n.name
    WHERE $3::uuid[] IS NULL OR n.workspace = ANY ($3)
), saved AS (
    INSERT INTO engram.migration_namespace AS s
        (migration, workspace, namespace, state, rows, reads, missing, dead)
    SELECT $1, workspace, namespace, CASE WHEN open = 0 THEN 'complete' ELSE 'waiting' END,
           rows, reads, missing, dead
    FROM named
    ON CONFLICT (migration, workspace, namespace) DO UPDATE
    SET rows = excluded.rows, reads = excluded.reads, missing = excluded.missing,
        dead = excluded.dead, updated_at = now()
    WHERE (s.rows, s.reads, s.missing, s.dead)
        IS DISTINCT FROM (excluded.rows, excluded.reads, excluded.missing, excluded.dead)
)
SELECT workspace, namespace, rows, missing, dead, open, lost FROM named

-- name: completed
-- Walked to the end and nothing open: complete.
UPDATE engram.migration_namespace n
SET state = 'complete', updated_at = now()
FROM unnest($2::uuid[], $3::text[]) AS d (workspace, namespace)
WHERE n.migration = $1 AND n.workspace = d.workspace AND n.namespace = d.namespace
  AND n.state IN ('waiting', 'backfilling')

-- name: reopened
UPDATE engram.migration_namespace n
SET state = 'backfilling', hint = NULL, updated_at = now()
FROM unnest($2::uuid[], $3::text[]) AS d (workspace, namespace)
WHERE n.migration = $1 AND n.workspace = d.workspace AND n.namespace = d.namespace
  AND n.state <> 'cut_over'
  AND (n.state IN ('complete', 'verified', 'failed')
       OR n.hint = 'ffffffff-ffff-ffff-ffff-ffffffffffff')

-- name: dead
-- Memories that the target's provider refuses for good.
SELECT f.workspace, m.namespace, f.memory_id, f.version, f.class, f.error
FROM engram.embedding_failure f
JOIN engram.memory m ON m.workspace = f.workspace AND m.id = f.memory_id AND m.state = 'active'
    AND m.version = f.version
WHERE f.space = $1 AND f.dead
  AND ($4::uuid[] IS NULL OR f.workspace = ANY ($4))
  AND (f.workspace, f.memory_id) > ($2::uuid, $3::uuid)
ORDER BY f.workspace, f.memory_id
LIMIT $5

-- name: plan_all
-- Active memories and their different texts, of a target that has no table yet.
SELECT coalesce(sum(rows), 0)::bigint AS rows, count(*)::bigint AS texts
FROM (
    SELECT count(*) AS rows FROM engram.memory
    WHERE state = 'active' AND ($1::uuid[] IS NULL OR workspace = ANY ($1))
    GROUP BY workspace, content_sha256
) AS t

-- name: plan_missing
-- The same where the target has a table: a text that has a current vector there is not embedded.
SELECT coalesce(sum(lacking), 0)::bigint AS rows,
       count(*) FILTER (WHERE lacking > 0 AND lacking = rows)::bigint AS texts
FROM (
    SELECT count(*) AS rows,
           count(*) FILTER (WHERE v.version IS DISTINCT FROM m.version) AS lacking
    FROM engram.memory m
    LEFT JOIN {vectors} v ON v.workspace = m.workspace AND v.memory_id = m.id
    WHERE m.state = 'active' AND ($1::uuid[] IS NULL OR m.workspace = ANY ($1))
    GROUP BY m.workspace, m.content_sha256
) AS t

-- name: plan_scopes
SELECT count(DISTINCT workspace)::int AS workspaces, count(*)::int AS namespaces,
       coalesce(sum(rows) FILTER (WHERE total > $2), 0)::bigint AS indexed_rows
FROM (
    SELECT workspace, namespace, count(*) AS rows,
           sum(count(*)) OVER (PARTITION BY workspace) AS total
    FROM engram.memory
    WHERE state = 'active' AND ($1::uuid[] IS NULL OR workspace = ANY ($1))
    GROUP BY workspace, namespace
) AS n

-- name: plan_sample
SELECT content FROM engram.memory TABLESAMPLE BERNOULLI ($2) REPEATABLE (11)
WHERE state = 'active' AND ($1::uuid[] IS NULL OR workspace = ANY ($1))
LIMIT $3

-- name: learned_share
SELECT share, closed_until > now() AS closed FROM engram.provider_budget
WHERE provider = $1 AND model = $2 AND key_sha256 = $3

-- name: workspaces
SELECT id, name FROM engram.workspace
WHERE id::text = ANY ($1::text[]) OR name = ANY ($1::text[])

-- name: sizes
-- Each space: its vectors' table, and who reads it.
SELECT s.id, s.state, s.workspaces, s.created_at,
       (SELECT count(*) FROM engram.workspace w WHERE w.read_space = s.id) AS workspaces_reading,
       (SELECT count(*) FROM engram.namespace n WHERE n.read_space = s.id) AS namespaces_reading,
       coalesce(pg_table_size(to_regclass('engram_vec.space_' || s.id)), 0) AS table_bytes,
       coalesce(pg_indexes_size(to_regclass('engram_vec.space_' || s.id)), 0) AS index_bytes,
       coalesce((SELECT c.reltuples FROM pg_class c
                 WHERE c.oid = to_regclass('engram_vec.space_' || s.id)), 0)::bigint AS about_rows
FROM engram.space s
ORDER BY s.id

-- name: read_spaces
-- Which spaces the chosen workspaces read, those most read first.
SELECT read_space, count(*) AS workspaces FROM engram.workspace
WHERE $1::uuid[] IS NULL OR id = ANY ($1)
GROUP BY read_space
ORDER BY count(*) DESC, read_space
