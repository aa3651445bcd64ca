-- What `engram status` draws. Asked every second or two by whoever watches, so nothing here reads
-- a large table: counts above a bound are the planner's, and totals are the statistics collector's.

-- name: memories
SELECT CASE WHEN c.reltuples > $1 THEN c.reltuples::bigint
            ELSE (SELECT count(*) FROM engram.memory) END AS memories,
       c.reltuples > $1 AS estimated,
       coalesce(pg_stat_get_tuples_inserted(c.oid), 0) AS stored_total
FROM pg_class c WHERE c.oid = 'engram.memory'::regclass

-- name: outbox
SELECT (SELECT count(*) FROM (SELECT 1 FROM engram.outbox LIMIT 1000000) AS w) AS lines,
       coalesce((SELECT extract(epoch FROM now() - created_at)
                 FROM engram.outbox ORDER BY id LIMIT 1), 0)::float8 AS oldest_s,
       coalesce(pg_stat_get_tuples_deleted('engram.outbox'::regclass), 0) AS published_total

-- name: spaces
SELECT s.id, s.key, s.provider, s.model, s.state = 'active' AS active,
       greatest(c.reltuples, 0)::bigint AS estimate,
       coalesce(pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid), 0)
           AS written_total,
       (SELECT coalesce(sum(cardinality(ids)), 0) FROM engram.bulk_batch b WHERE b.space = s.id)
           ::bigint AS bulk_waiting,
       (SELECT coalesce(greatest(0, extract(epoch FROM now() - min(b.rung_at))), 0)
        FROM engram.bulk_batch b WHERE b.space = s.id)::float8 AS bulk_oldest_s
FROM engram.space s
JOIN pg_class c ON c.oid = to_regclass('engram_vec.space_' || s.id)
ORDER BY s.id

-- name: vectors
SELECT count(*) FROM (SELECT 1 FROM {vectors} LIMIT $1) AS v

-- name: failures
SELECT f.space, f.class, f.dead, count(*) AS memories
FROM (SELECT space, class, dead FROM engram.embedding_failure
      WHERE discarded_at IS NULL LIMIT 200000) AS f
GROUP BY f.space, f.class, f.dead
ORDER BY f.space, f.class, f.dead

-- name: budgets
SELECT provider, model, min(share) AS share
FROM engram.provider_budget
GROUP BY provider, model ORDER BY provider, model

-- name: letters
SELECT kind, count(*) AS letters
FROM (SELECT kind FROM engram.dead_letter LIMIT 200000) AS l GROUP BY kind ORDER BY kind
