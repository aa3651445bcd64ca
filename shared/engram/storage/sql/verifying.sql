-- name: differences
-- What a namespace's live memories and its vectors in a space have that the other side has not, on
-- (id, version), in one pass over both. Young memories ($3) are on their way. What an adapter made
-- (a negative version) is no vector here. {within} chooses the namespaces.
SELECT coalesce(m.workspace, v.workspace) AS workspace,
       coalesce(m.namespace, v.namespace) AS namespace,
       count(m.id) AS rows,
       count(*) FILTER (WHERE m.id IS NOT NULL AND v.version IS DISTINCT FROM m.version
                          AND f.memory_id IS NULL AND m.versioned_at < now() - $3::interval)
           AS missing,
       count(f.memory_id) AS dead,
       count(*) FILTER (WHERE v.version > 0 AND (m.id IS NULL OR v.version > m.version
                          OR (v.version < m.version
                              AND m.versioned_at < now() - $3::interval))) AS extra,
       count(*) FILTER (WHERE v.bad) AS bad
FROM (
    SELECT workspace, namespace, id, version, versioned_at FROM engram.memory
    WHERE state = 'active' AND {within}
) AS m
FULL JOIN (
    SELECT workspace, namespace, memory_id, version,
           version > 0 AND NOT (vector_dims(embedding) = $1::int
               AND CASE WHEN $2::bool THEN abs(l2_norm(embedding) - 1) < 0.02
                        ELSE l2_norm(embedding) > 0 AND l2_norm(embedding) < 'Infinity' END) AS bad
    FROM {vectors} WHERE {within}
) AS v ON v.workspace = m.workspace AND v.memory_id = m.id
LEFT JOIN engram.embedding_failure f
    ON f.workspace = m.workspace AND f.memory_id = m.id AND f.space = $4::smallint AND f.dead
    AND f.version = m.version AND v.version IS DISTINCT FROM m.version
GROUP BY 1, 2

-- name: of_workspaces
($6::text[] IS NULL AND ($5::uuid[] IS NULL OR workspace = ANY ($5)))

-- name: of_names
(workspace, namespace) IN (SELECT * FROM unnest($5::uuid[], $6::text[]))

-- name: compare
-- Writes the counts of every namespace into its verdict, and gives back those that differ.
WITH counted AS MATERIALIZED ({differences}), noted AS (
    INSERT INTO engram.migration_namespace AS s
        (migration, workspace, namespace, state, rows, missing, verdict)
    SELECT $7::uuid, c.workspace, c.namespace, 'complete', c.rows, c.missing,
           jsonb_build_object('rows', c.rows, 'missing', c.missing, 'dead', c.dead,
                              'extra', c.extra, 'bad', c.bad)
    FROM counted c
    ON CONFLICT (migration, workspace, namespace) DO UPDATE
        SET rows = excluded.rows, missing = excluded.missing, verdict = excluded.verdict,
            updated_at = now()
)
SELECT workspace, namespace, rows, missing, dead, extra, bad FROM counted
WHERE missing + dead + extra + bad > 0

-- name: total
SELECT count(*) AS namespaces, coalesce(sum(rows), 0)::bigint AS rows
FROM engram.migration_namespace
WHERE migration = $1
  AND ($2::uuid[] IS NULL OR (workspace, namespace) IN (SELECT * FROM unnest($2, $3::text[])))

-- name: passed
-- What is cut over already stays so: it is read, and `rollback` is how to go back.
UPDATE engram.migration_namespace s
SET state = 'verified', updated_at = now(),
    verdict = coalesce(s.verdict, '{}') || jsonb_build_object('ok', true, 'reasons', '[]'::jsonb)
WHERE s.migration = $1 AND s.state <> 'cut_over'
  AND ($2::uuid[] IS NULL OR (workspace, namespace) IN (SELECT * FROM unnest($2, $3::text[])))
  AND ($6::bool OR (workspace, namespace) NOT IN (SELECT * FROM unnest($4::uuid[], $5::text[])))

-- name: failed
UPDATE engram.migration_namespace s
SET state = CASE WHEN s.state = 'cut_over' THEN s.state ELSE 'failed' END, updated_at = now(),
    verdict = coalesce(s.verdict, '{}') || f.verdict
FROM unnest($2::uuid[], $3::text[], $4::jsonb[]) AS f (workspace, namespace, verdict)
WHERE s.migration = $1 AND s.workspace = f.workspace AND s.namespace = f.namespace

-- name: all_failed
UPDATE engram.migration_namespace s
SET state = 'failed', updated_at = now(),
    verdict = coalesce(s.verdict, '{}') || $4::jsonb
WHERE s.migration = $1 AND s.state <> 'cut_over'
  AND ($2::uuid[] IS NULL OR (workspace, namespace) IN (SELECT * FROM unnest($2, $3::text[])))

-- name: keep
-- Judged queries are content: they are kept no longer than it takes to ask them.
UPDATE engram.migration SET verdict = $2, options = options - 'judged', updated_at = now()
WHERE id = $1

-- name: sample
-- Live memories with a current vector in the space, from pages by chance ({share} per cent of them).
SELECT m.workspace, m.namespace, m.id, m.version, m.content, v.embedding
FROM engram.memory m TABLESAMPLE SYSTEM ({share})
JOIN {vectors} v ON v.workspace = m.workspace AND v.memory_id = m.id AND v.version = m.version
WHERE m.state = 'active' AND (m.expires_at IS NULL OR m.expires_at > now())
  AND ($1::uuid[] IS NULL OR m.workspace = ANY ($1))
  AND ($2::uuid[] IS NULL OR (m.workspace, m.namespace) IN (SELECT * FROM unnest($2, $3::text[])))
ORDER BY random()
LIMIT $4

-- name: memories
-- As the last analyze saw it.
SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'engram.memory'::regclass
