-- name: lock
SELECT pg_try_advisory_lock(hashtext('engram.vector_index'), $1)

-- name: unlock
SELECT pg_advisory_unlock(hashtext('engram.vector_index'), $1)

-- name: changes
-- Grows with every write to the table; NULL when there is no such table.
SELECT n_tup_ins + n_tup_upd + n_tup_del
FROM pg_stat_all_tables WHERE relid = to_regclass($1)

-- name: sizes
-- One pass over the narrow btree. Scopes above $1 rows, and namespaces whose kept count has
-- drifted by more than a twentieth: a count that is nearly right routes as well as an exact one.
WITH counted AS MATERIALIZED (
    SELECT workspace, namespace, count(*) AS rows, max(seq) AS max_seq
    FROM {vectors}
    GROUP BY workspace, namespace
), kept AS (
    SELECT n.workspace, n.name AS namespace, n.row_count
    FROM engram.namespace n JOIN engram.workspace w ON w.id = n.workspace
    WHERE coalesce(n.read_space, w.read_space) = $2
), compared AS (
    SELECT workspace, namespace, coalesce(c.rows, 0) AS rows, coalesce(c.max_seq, 0) AS max_seq,
           coalesce(abs(coalesce(c.rows, 0) - k.row_count) * 20 > k.row_count, false) AS drifted
    FROM counted c FULL JOIN kept k USING (workspace, namespace)
)
(SELECT workspace, namespace, rows, max_seq, drifted
 FROM compared
 WHERE rows > $1 OR drifted
 ORDER BY rows DESC
 LIMIT 20000)
UNION ALL
SELECT workspace, NULL, sum(rows)::bigint, max(max_seq), false
FROM counted
GROUP BY workspace
HAVING sum(rows) > $1

-- name: save_sizes
-- Writers lock namespaces in order and wait; this takes only what is free, so it never waits.
UPDATE engram.namespace n
SET row_count = f.rows
FROM (SELECT n.workspace, n.name, s.rows
      FROM engram.namespace n
      JOIN unnest($1::uuid[], $2::text[], $3::bigint[]) AS s (workspace, name, rows)
          USING (workspace, name)
      FOR NO KEY UPDATE OF n SKIP LOCKED) AS f
WHERE n.workspace = f.workspace AND n.name = f.name

-- name: tail
SELECT count(*)
FROM (SELECT 1 FROM {vectors} v
      WHERE v.workspace = $1 AND ($2::text IS NULL OR v.namespace = $2) AND v.seq > $3
      LIMIT $4) AS counted

-- name: all
SELECT i.name, i.scope_workspace, i.scope_namespace, i.predicate, i.seq_low, i.seq_high, i.state,
       greatest(c.reltuples, 0)::bigint AS rows, coalesce(x.indisvalid, false) AS valid,
       extract(epoch FROM now() - i.changed_at)::float8 AS age_s
FROM engram.vector_index i
LEFT JOIN pg_class c ON c.relname = i.name AND c.relnamespace = to_regnamespace('engram_vec')
LEFT JOIN pg_index x ON x.indexrelid = c.oid
WHERE i.space = $1
ORDER BY i.seq_high

-- name: ready
-- What a search may use: ranges of the namespace and of its workspace, and the kept row count.
SELECT i.name, i.scope_workspace, i.scope_namespace, i.predicate, i.seq_low, i.seq_high,
       greatest(c.reltuples, 0)::bigint AS rows, n.row_count
FROM (SELECT 1) AS one
LEFT JOIN engram.namespace n ON n.workspace = $2 AND n.name = $3
LEFT JOIN (engram.vector_index i
           JOIN pg_class c
               ON c.relname = i.name AND c.relnamespace = to_regnamespace('engram_vec'))
    ON i.space = $1 AND i.state = 'ready' AND i.scope_workspace = $2
       AND (i.scope_namespace IS NULL OR i.scope_namespace = $3)

-- name: begin
-- The server quotes what a sender chose; the search repeats this text word for word.
INSERT INTO engram.vector_index
    (space, name, scope_workspace, scope_namespace, predicate, seq_low, seq_high, state)
VALUES ($1, $2, $3, $4,
        format('seq > %s AND seq <= %s AND workspace = %L::uuid', $5::bigint, $6::bigint, $3::uuid)
            || CASE WHEN $4::text IS NULL THEN '' ELSE format(' AND namespace = %L', $4::text) END,
        $5, $6, 'building')
RETURNING predicate

-- name: build
CREATE INDEX CONCURRENTLY {name} ON {vectors}
USING hnsw (embedding halfvec_cosine_ops) WITH (m = 16, ef_construction = 96)
WHERE {predicate}

-- name: analyze
-- The planner needs to know tenants' shares, and nothing about the vectors themselves.
ANALYZE {vectors} (workspace, namespace, seq)

-- name: finish
UPDATE engram.vector_index
SET state = CASE WHEN name = $2 THEN 'ready' ELSE 'retiring' END, changed_at = now()
WHERE space = $1 AND (name = $2 OR name = ANY ($3::text[]))

-- name: retire
UPDATE engram.vector_index SET state = 'retiring', changed_at = now()
WHERE space = $1 AND name = ANY ($2::text[]) AND state = 'ready'

-- name: drop
DROP INDEX CONCURRENTLY IF EXISTS engram_vec.{name}

-- name: forget
DELETE FROM engram.vector_index WHERE space = $1 AND name = $2
