-- name: settings
-- Plans are made for the values at hand: an average tenant's plan is wrong for the largest one.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('hnsw.ef_search', $1, true),
       set_config('hnsw.iterative_scan', 'relaxed_order', true),
       set_config('hnsw.scan_mem_multiplier', '4', true)

-- name: whole_scope
-- A nested loop over the whole scope can be quadratic when the planner knows too little.
SELECT set_config('enable_nestloop', 'off', true)

-- name: look_ups
SELECT set_config('enable_nestloop', 'on', true)

-- name: scan
-- A negative version is that of a vector an adapter made (adapt.sql): it is as current as the
-- memory's version says, and nowhere but in a search does it count.
(SELECT v.memory_id, abs(v.version) AS version, v.embedding <=> $2 AS distance
 FROM {vectors} v
 WHERE {scope}
 ORDER BY v.embedding <=> $2, v.memory_id
 LIMIT {count})

-- name: range
-- No second sort key here: the order must be exactly the index's.
(SELECT v.memory_id, abs(v.version) AS version, v.embedding <=> $2 AS distance
 FROM {vectors} v
 WHERE {predicate}{within}
 ORDER BY v.embedding <=> $2
 LIMIT {count})

-- name: candidates
-- Nearest first, then what may be shown of it: current, live, not expired, and the filter. The
-- "+ 0" hides from the planner that the parts are sorted; relaxed order is not quite. LIMIT 1 makes
-- it one look-up a candidate: on a table never analysed it would compare each with every memory.
WITH nearest AS MATERIALIZED (
{parts}
), best AS MATERIALIZED (
    SELECT * FROM nearest ORDER BY distance + 0, memory_id LIMIT {count}
)
SELECT s.scanned, s.furthest, m.id, m.fold_hash, m.namespace, m.importance, m.pinned,
       m.reinforced_at, 1 - b.distance AS score
FROM (SELECT count(*) AS scanned, max(distance) AS furthest FROM best) AS s
LEFT JOIN (best b CROSS JOIN LATERAL (
        SELECT m.id, m.fold_hash, m.namespace, m.importance, m.pinned, m.reinforced_at
        FROM engram.memory m
        WHERE m.workspace = $1 AND m.id = b.memory_id AND m.version = b.version
          AND m.state = 'active' AND (m.expires_at IS NULL OR m.expires_at > now())
          {where}
        LIMIT 1) AS m)
    ON true
ORDER BY b.distance, m.id

-- name: every
-- The whole scope, one of equal texts. In time linear in the scope, in memory bounded by work_mem.
SELECT f.* FROM (
    SELECT DISTINCT ON (m.fold_hash) m.id, m.fold_hash, m.namespace, m.importance, m.pinned,
           m.reinforced_at, 1 - (v.embedding <=> $2) AS score
    FROM {vectors} v
    JOIN engram.memory m
        ON m.workspace = $1 AND m.id = v.memory_id AND m.version = abs(v.version)
    WHERE {scope} AND m.state = 'active' AND (m.expires_at IS NULL OR m.expires_at > now())
      {where}
    ORDER BY m.fold_hash, v.embedding <=> $2, m.id
) AS f
ORDER BY f.score DESC, f.id
LIMIT {count}

-- name: lexical
-- Words are looked for in the newest memories of the scope, without an index: this answers only
-- while a provider is down, and a full-text index would cost every write a third of ingest.
WITH matched AS MATERIALIZED (
    SELECT m.id, m.fold_hash, m.namespace, m.importance, m.pinned, m.reinforced_at,
           ts_rank_cd(to_tsvector('simple', m.content), q.query, 32)::float8 AS score
    FROM (
        SELECT * FROM engram.memory m
        WHERE m.workspace = $1 AND ($2::text IS NULL OR m.namespace = $2) AND m.state = 'active'
          AND (m.expires_at IS NULL OR m.expires_at > now())
          {where}
        ORDER BY m.id DESC
        LIMIT {newest}
    ) AS m
    CROSS JOIN to_tsquery('simple', $3) AS q (query)
    WHERE to_tsvector('simple', m.content) @@ q.query
    ORDER BY score DESC, m.id
    LIMIT {count}
)
SELECT s.scanned, m.*
FROM (SELECT count(*) AS scanned FROM matched) AS s
LEFT JOIN matched m ON true
ORDER BY m.score DESC, m.id

-- name: similar
SELECT w.id AS shown, e.id
FROM unnest($2::uuid[], $3::bytea[]) AS w (id, fold_hash)
CROSS JOIN LATERAL (
    SELECT m.id FROM engram.memory m
    WHERE m.workspace = $1 AND m.fold_hash = w.fold_hash AND m.id <> w.id
      AND m.state = 'active' AND (m.expires_at IS NULL OR m.expires_at > now())
      {where}
    ORDER BY m.id
    LIMIT {count}
) AS e
ORDER BY w.id, e.id
