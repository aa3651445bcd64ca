-- name: find
SELECT kind, penalty, source_dimensions, target_dimensions, weights, measured, worth_reading
FROM engram.adapter WHERE migration = $1

-- name: judged
SELECT kind, measured, worth_reading FROM engram.adapter WHERE migration = $1

-- name: keep
INSERT INTO engram.adapter (migration, kind, penalty, source_dimensions, target_dimensions, weights,
                            measured, worth_reading)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (migration) DO NOTHING

-- name: pairs
-- Memories that have their own vector in both spaces, in an order that says nothing about them.
SELECT s.embedding AS old, t.embedding AS new
FROM (
    SELECT workspace, memory_id, version FROM {target} WHERE version > 0
    ORDER BY md5(memory_id::text) LIMIT $1
) AS k
CROSS JOIN LATERAL (
    SELECT s.embedding FROM {source} s
    WHERE s.workspace = k.workspace AND s.memory_id = k.memory_id AND s.version = k.version
    OFFSET 0
) AS s
CROSS JOIN LATERAL (
    SELECT t.embedding FROM {target} t
    WHERE t.workspace = k.workspace AND t.memory_id = k.memory_id AND t.version = k.version
    OFFSET 0
) AS t
ORDER BY md5(k.memory_id::text)

-- name: how_many
-- Vectors of the target that are no adapter's, counted up to $1 and no further.
SELECT count(*) FROM (SELECT 1 FROM {target} WHERE version > 0 LIMIT $1) AS t

-- name: sample
-- Some memories of everywhere that the old space has and the new one lacks: pairs to be. Read in no
-- order that the backfill has.
SELECT m.workspace, m.id
FROM engram.memory m TABLESAMPLE BERNOULLI ($1)
CROSS JOIN LATERAL (
    SELECT 1 FROM {source} s
    WHERE s.workspace = m.workspace AND s.memory_id = m.id AND s.version = m.version
    OFFSET 0
) AS s
LEFT JOIN LATERAL (
    SELECT t.version FROM {target} t WHERE t.workspace = m.workspace AND t.memory_id = m.id
    OFFSET 0
) AS t ON true
WHERE m.state = 'active' AND ($2::uuid[] IS NULL OR m.workspace = ANY ($2))
  AND t.version IS DISTINCT FROM m.version
LIMIT $3

-- name: open
-- Namespaces whose backfill has not ended and that do not read the target yet, most read first.
SELECT g.workspace, g.namespace
FROM engram.migration_namespace g
JOIN engram.namespace n ON n.workspace = g.workspace AND n.name = g.namespace
JOIN engram.workspace w ON w.id = g.workspace
WHERE g.migration = $1 AND g.state IN ('waiting', 'backfilling')
  AND coalesce(n.read_space, w.read_space) = $2::smallint
ORDER BY g.reads DESC, g.rows, g.workspace, g.namespace
LIMIT $3

-- name: page
-- Current vectors of the old space that have nothing current in the new one, by seq.
SELECT s.seq, s.memory_id, s.version, s.embedding
FROM {source} s
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.memory m
    WHERE m.workspace = s.workspace AND m.id = s.memory_id AND m.version = s.version
      AND m.state = 'active'
    OFFSET 0
) AS m
LEFT JOIN LATERAL (
    SELECT t.version FROM {target} t
    WHERE t.workspace = s.workspace AND t.memory_id = s.memory_id
    OFFSET 0
) AS t ON true
WHERE s.workspace = $1 AND s.namespace = $2 AND s.seq > $3
  AND abs(t.version) IS DISTINCT FROM s.version
ORDER BY s.seq
LIMIT $4

-- name: store
-- Under the guard of embed.sql's store. The negative version says whose it is: whatever asks for the
-- vector of a version does not take it for that, and the real one replaces it.
INSERT INTO {target} AS t (workspace, namespace, memory_id, version, embedding)
SELECT $1::uuid, m.namespace, i.id, -i.version, i.embedding
FROM (SELECT 1 FROM engram.space p WHERE p.id = $5 AND p.state = 'active' FOR SHARE OF p) AS p
CROSS JOIN (
    SELECT * FROM unnest($2::uuid[], $3::int[], $4::halfvec[]) AS i (id, version, embedding)
    ORDER BY id
) AS i
CROSS JOIN LATERAL (
    SELECT m.namespace FROM engram.memory m
    WHERE m.workspace = $1::uuid AND m.id = i.id AND m.version = i.version AND m.state = 'active'
    FOR SHARE OF m
) AS m
ON CONFLICT (workspace, memory_id) DO UPDATE
    SET version = excluded.version, embedding = excluded.embedding, seq = excluded.seq
    WHERE abs(t.version) < abs(excluded.version)
RETURNING memory_id

-- name: read_early
UPDATE engram.namespace SET read_space = $3 WHERE workspace = $1 AND name = $2

-- name: standing
-- Adapted vectors there are, and namespaces that read the target before they are cut over.
SELECT (SELECT count(*) FROM {target} WHERE version < 0) AS adapted,
       (SELECT count(*) FROM engram.migration_namespace g
        JOIN engram.namespace n ON n.workspace = g.workspace AND n.name = g.namespace
        WHERE g.migration = $1 AND g.state <> 'cut_over' AND n.read_space = $2::smallint) AS early
