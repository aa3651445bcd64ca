-- name: page
-- The next namespaces that a cutover has to do with: those that read the old space, and those that
-- read the new one through an adapter until now.
SELECT n.workspace, n.name
FROM engram.namespace n
JOIN engram.workspace w ON w.id = n.workspace
LEFT JOIN engram.migration_namespace s
    ON s.migration = $1 AND s.workspace = n.workspace AND s.namespace = n.name
WHERE ($3::uuid[] IS NULL OR n.workspace = ANY ($3))
  AND (coalesce(n.read_space, w.read_space) = $2 OR s.state <> 'cut_over')
  AND (n.workspace, n.name) > ($4::uuid, $5::text)
ORDER BY n.workspace, n.name
LIMIT $6

-- name: overridden
-- The next namespaces that read a space because they were told to.
SELECT n.workspace, n.name
FROM engram.namespace n
WHERE n.read_space = $1 AND ($2::uuid[] IS NULL OR n.workspace = ANY ($2))
  AND (n.workspace, n.name) > ($3::uuid, $4::text)
ORDER BY n.workspace, n.name
LIMIT $5

-- name: workspaces
-- The next workspaces whose default is a space.
SELECT w.id FROM engram.workspace w
WHERE w.read_space = $1 AND ($2::uuid[] IS NULL OR w.id = ANY ($2)) AND w.id > $3
ORDER BY w.id
LIMIT $4

-- name: known
-- Which of these namespaces there are.
SELECT n.workspace, n.name
FROM unnest($1::uuid[], $2::text[]) AS g (workspace, name)
JOIN engram.namespace n USING (workspace, name)
ORDER BY n.workspace, n.name

-- name: mark
-- Locked in the order given, as writers lock them.
WITH locked AS MATERIALIZED (
    SELECT g.workspace, g.name
    FROM unnest($1::uuid[], $2::text[]) AS g (workspace, name)
    CROSS JOIN LATERAL (
        SELECT 1 FROM engram.namespace n WHERE n.workspace = g.workspace AND n.name = g.name
        FOR NO KEY UPDATE OF n
    ) AS n
)
UPDATE engram.namespace n SET phase = 'cutting'
FROM locked l
WHERE n.workspace = l.workspace AND n.name = l.name AND n.phase <> 'cutting'

-- name: fence
-- Waits for stores under way and refuses those that began before (embed.sql): whoever stores in this
-- space from now on has seen every mark that was committed before. Each time is another one.
UPDATE engram.space
SET fenced_until = greatest(clock_timestamp() + $2::interval,
                            fenced_until + interval '1 microsecond')
WHERE id = $1 AND state = 'active'
RETURNING id

-- name: unfence
-- Nobody moves pointers the other way any more. Earlier than the fence and later than all before it,
-- so again a value of its own.
UPDATE engram.space SET fenced_until = clock_timestamp()
WHERE id = $1 AND fenced_until > clock_timestamp()

-- name: newest
SELECT g.workspace, g.name, coalesce((
    SELECT max(o.seq) FROM {old} o WHERE o.workspace = g.workspace AND o.namespace = g.name
), 0) AS seq
FROM unnest($1::uuid[], $2::text[]) AS g (workspace, name)

-- name: tail
-- Below the newest $3 vectors of each namespace.
SELECT g.workspace, g.name, coalesce((
    SELECT o.seq FROM {old} o WHERE o.workspace = g.workspace AND o.namespace = g.name
    ORDER BY o.seq DESC OFFSET $3 LIMIT 1
), 0) AS seq
FROM unnest($1::uuid[], $2::text[]) AS g (workspace, name)

-- name: lacking_of
-- Live memories of a namespace (g) with a current vector in the old space and none in the new one.
SELECT o.seq, o.memory_id, o.version
FROM {old} o
LEFT JOIN LATERAL (
    SELECT v.version FROM {new} v
    WHERE v.workspace = o.workspace AND v.memory_id = o.memory_id
    OFFSET 0
) AS v ON true
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.memory m
    WHERE m.workspace = o.workspace AND m.id = o.memory_id AND m.version = o.version
      AND m.state = 'active'
    OFFSET 0
) AS m
WHERE o.workspace = g.workspace AND o.namespace = g.name AND o.seq > g.after
  AND v.version IS DISTINCT FROM o.version

-- name: lacking
SELECT g.workspace, g.name, count(o.seq) AS missing, min(o.seq) AS first_seq
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS g (workspace, name, after)
LEFT JOIN LATERAL ({lacking_of}) AS o ON true
GROUP BY g.workspace, g.name

-- name: lacking_ids
SELECT g.workspace, o.memory_id AS id, o.version
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS g (workspace, name, after)
CROSS JOIN LATERAL ({lacking_of}) AS o
ORDER BY g.workspace, o.memory_id
LIMIT $4

-- name: flip
-- Check, flip and lift in one statement, so that nobody can be stopped between them. What was checked
-- stays true: the fence keeps the old space from getting ahead again, and it is flipped well before
-- its end. Whoever retires the new space waits, or has done so before, and nothing is flipped.
WITH checked AS MATERIALIZED (
    SELECT g.place, g.workspace, g.name, x.missing
    FROM unnest($3::uuid[], $4::text[], $5::bigint[])
        WITH ORDINALITY AS g (workspace, name, after, place)
    CROSS JOIN LATERAL (SELECT count(*) AS missing FROM ({lacking_of}) AS o) AS x
), locked AS MATERIALIZED (
    SELECT c.workspace, c.name
    FROM (SELECT * FROM checked WHERE missing = 0 OR $8 ORDER BY place) AS c
    CROSS JOIN LATERAL (
        SELECT 1 FROM engram.namespace n
        WHERE n.workspace = c.workspace AND n.name = c.name AND n.phase = 'cutting'
        FOR NO KEY UPDATE OF n
    ) AS n
), open AS MATERIALIZED (
    SELECT p.id FROM engram.space p WHERE p.id = $2 AND p.state = 'active' FOR SHARE OF p
), flipped AS (
    UPDATE engram.namespace n
    SET read_space = nullif($2::smallint, w.read_space), phase = 'steady'
    FROM locked l
    JOIN engram.workspace w ON w.id = l.workspace
    WHERE n.workspace = l.workspace AND n.name = l.name AND n.phase = 'cutting'
      AND EXISTS (SELECT 1 FROM open)
      AND ($8 OR clock_timestamp() < (
          SELECT p.fenced_until - interval '3 seconds' FROM engram.space p WHERE p.id = $1))
    RETURNING n.workspace, n.name
), noted AS (
    INSERT INTO engram.migration_namespace AS s (migration, workspace, namespace, state)
    SELECT $6::uuid, f.workspace, f.name, $7::text FROM flipped f WHERE $7::text IS NOT NULL
    ON CONFLICT (migration, workspace, namespace) DO UPDATE
        SET state = excluded.state, updated_at = now()
)
SELECT c.workspace, c.name, c.missing, f.name IS NOT NULL AS flipped
FROM checked c
LEFT JOIN flipped f USING (workspace, name)
ORDER BY c.place

-- name: lift
UPDATE engram.namespace n SET phase = 'steady'
FROM unnest($1::uuid[], $2::text[]) AS g (workspace, name)
WHERE n.workspace = g.workspace AND n.name = g.name AND n.phase = 'cutting'

-- name: lift_all
UPDATE engram.namespace SET phase = 'steady' WHERE phase = 'cutting'

-- name: wake
-- What was deferred is due as soon as nothing is in its way any more.
UPDATE engram.embedding_failure SET next_attempt = now()
WHERE space = $1 AND class = 'cutting' AND NOT dead AND next_attempt > now()

-- name: hold
-- Until commit nobody stores in the space, whoever stored has committed, and nobody comes to read it.
SELECT id FROM engram.space WHERE id = $1 FOR UPDATE

-- name: open
SELECT id FROM engram.space WHERE id = $1 AND state = 'active' FOR SHARE

-- name: move_defaults
-- Of workspaces where no namespace that follows the default would lose anything. Of each namespace
-- the newest $4 vectors are looked at: what is older was looked at when it was cut over.
WITH following AS MATERIALIZED (
    SELECT n.workspace, n.name
    FROM engram.workspace w
    JOIN engram.namespace n ON n.workspace = w.id
    WHERE w.id = ANY ($3::uuid[]) AND w.read_space = $1 AND n.read_space IS NULL AND NOT $5
), behind AS MATERIALIZED (
    SELECT DISTINCT g.workspace
    FROM (
        SELECT f.workspace, f.name, coalesce((
            SELECT o.seq FROM {old} o WHERE o.workspace = f.workspace AND o.namespace = f.name
            ORDER BY o.seq DESC OFFSET $4 LIMIT 1), 0) AS after
        FROM following f
    ) AS g
    CROSS JOIN LATERAL (SELECT 1 FROM ({lacking_of}) AS o LIMIT 1) AS x
)
UPDATE engram.workspace w SET read_space = $2
WHERE w.id = ANY ($3::uuid[]) AND w.read_space = $1
  AND NOT EXISTS (SELECT 1 FROM behind b WHERE b.workspace = w.id)
RETURNING w.id

-- name: clear_overrides
-- An override that says what the default says is none.
WITH same AS MATERIALIZED (
    SELECT n.workspace, n.name
    FROM engram.namespace n
    JOIN engram.workspace w ON w.id = n.workspace AND w.read_space = n.read_space
    WHERE n.read_space = $1
    ORDER BY n.workspace, n.name
    LIMIT $2
    FOR NO KEY UPDATE OF n SKIP LOCKED
)
UPDATE engram.namespace n SET read_space = NULL
FROM same s
WHERE n.workspace = s.workspace AND n.name = s.name

-- name: back
-- Namespaces that are back at the old space have been verified, and may be cut over again.
UPDATE engram.migration_namespace s SET state = 'verified', updated_at = now()
FROM engram.workspace w
WHERE s.migration = $1 AND s.state = 'cut_over' AND w.id = s.workspace AND w.read_space = $2
  AND NOT EXISTS (SELECT 1 FROM engram.namespace n
                  WHERE n.workspace = s.workspace AND n.name = s.namespace
                    AND n.read_space IS NOT NULL AND n.read_space <> $2)

-- name: readers
-- Whatever reads a space, and what else would miss it.
SELECT (SELECT count(*) FROM engram.namespace n JOIN engram.workspace w ON w.id = n.workspace
        WHERE coalesce(n.read_space, w.read_space) = $1) AS namespaces,
       (SELECT count(*) FROM engram.workspace w WHERE w.read_space = $1) AS workspaces,
       (SELECT count(*) FROM engram.workspace w
        WHERE w.read_space = $1 AND NOT ($3::uuid[] IS NULL OR w.id = ANY ($3))) AS strangers,
       (SELECT count(*) FROM engram.dedup_task t
        JOIN engram.dedup_run r ON r.workspace = t.workspace AND r.id = t.run_id
        WHERE t.space = $1 AND NOT t.done AND r.state = 'running') AS comparisons,
       (SELECT count(*) FROM engram.migration m
        WHERE m.id <> $2 AND $1 IN (m.source_space, m.target_space)
          AND m.phase IN ('dual_write', 'backfill', 'verified', 'cut_over')) AS migrations

-- name: state
SELECT state FROM engram.space WHERE id = $1

-- name: retire
-- From here on the store refuses.
UPDATE engram.space SET state = 'retired' WHERE id = $1 AND state = 'active'

-- name: drop_table
DROP TABLE IF EXISTS {vectors}

-- name: forget_failures
DELETE FROM engram.embedding_failure WHERE space = $1

-- name: forget_batches
DELETE FROM engram.bulk_batch WHERE space = $1

-- name: forget_space
DELETE FROM engram.space WHERE id = $1 AND state = 'retired'
