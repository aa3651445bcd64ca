-- name: plan
-- A cursor is planned for its first tenth unless told otherwise: two index walks with a read of the
-- heap for every row, three times the hash join. The pool resets it.
SELECT set_config('cursor_tuple_fraction', '1', false)

-- name: differ
-- Everything that is wrong in one space, in one anti-join: both tables are read once, by a hash join
-- (a full join is never a nested loop, whatever the statistics say), and vectors above $3 are looked
-- at themselves. Missing is only what belongs in the space ($5), and is left to a backfill that
-- looks for it ($6). WITH HOLD keeps the answer on the server's disk: the snapshot ends with the join,
-- however long the repairs take. Waiting, dead and discarded failures of the version speak for
-- their memory. What is young ($4) is on its way, and so is what may lie in the bulk queue.
DECLARE engram_differing NO SCROLL CURSOR WITH HOLD FOR
SELECT d.workspace, d.id, d.version, d.vector_version, d.kind,
       coalesce(extract(epoch FROM now() - d.versioned_at), 0)::float8 AS age_s
FROM (
    SELECT coalesce(m.workspace, v.workspace) AS workspace, coalesce(m.id, v.memory_id) AS id,
           m.version, m.versioned_at, v.version AS vector_version,
           CASE WHEN m.id IS NULL THEN 'orphan'
                -- What an adapter made has a negative version: the real one is still missing.
                WHEN coalesce(v.version, -1) < 0 THEN 'missing'
                ELSE coalesce(v.bad, 'stale') END AS kind
    FROM (
        SELECT workspace, id, version, versioned_at FROM engram.memory WHERE state = 'active'
    ) AS m
    FULL JOIN (
        SELECT workspace, memory_id, version,
               CASE WHEN seq <= $3::bigint THEN NULL
                    WHEN vector_dims(embedding) <> $2::int THEN 'dimension'
                    WHEN l2_norm(embedding) = ANY ('{0,NaN,Infinity}'::float8[]) THEN 'norm'
               END AS bad
        FROM {vectors}
    ) AS v ON v.workspace = m.workspace AND v.memory_id = m.id
    WHERE v.version IS DISTINCT FROM m.version OR v.bad IS NOT NULL
) AS d
LEFT JOIN engram.embedding_failure f
    ON f.workspace = d.workspace AND f.memory_id = d.id AND f.space = $1::smallint
    AND f.version = d.version
LEFT JOIN (
    SELECT workspace, min(rung_at) AS rung_at FROM engram.bulk_batch
    WHERE space = $1::smallint GROUP BY workspace
) AS q ON q.workspace = d.workspace
WHERE (d.kind <> 'missing' OR (NOT $6::bool
           AND ($5::uuid[] IS NULL OR d.workspace = ANY ($5))))
  AND (d.kind NOT IN ('missing', 'stale')
    OR (f.memory_id IS NULL AND d.versioned_at < least(now(), q.rung_at) - $4::interval))

-- name: next
FETCH 1000 FROM engram_differing

-- name: close
CLOSE engram_differing

-- name: newest
-- By the narrow btree where vectors are long.
SELECT coalesce(max(seq), 0) FROM {vectors}

-- name: count
SELECT count(*) FROM {vectors}

-- name: column
-- The length a table's column was declared with, -1 for none; NULL when there is no such table.
SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'embedding'

-- name: lock
-- Memory first, vectors in a later statement (see write.sql): nobody changes, restores or embeds
-- these until commit.
SELECT m.id
FROM (
    SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS i (workspace, id) ORDER BY id
) AS i
CROSS JOIN LATERAL (
    SELECT m.id FROM engram.memory m WHERE m.workspace = i.workspace AND m.id = i.id
    FOR NO KEY UPDATE OF m
) AS m

-- name: drop
-- Looks again: only this version's vector, and only if it still is nobody's, of a version its memory
-- never had, or no vector that could be searched.
DELETE FROM {vectors} v
USING unnest($1::uuid[], $2::uuid[], $3::int[]) AS i (workspace, id, version)
WHERE v.workspace = i.workspace AND v.memory_id = i.id AND v.version = i.version
  AND (NOT EXISTS (SELECT 1 FROM engram.memory m
                   WHERE m.workspace = i.workspace AND m.id = i.id AND m.state = 'active'
                     AND m.version >= i.version)
       OR vector_dims(v.embedding) <> $4::int
       OR l2_norm(v.embedding) = ANY ('{0,NaN,Infinity}'::float8[]))

-- name: due
-- A failure of this version stays as it is: no dead letter is revived, no pause is cut short.
INSERT INTO engram.embedding_failure AS e
    (workspace, memory_id, space, version, attempts, class, error, next_attempt)
SELECT i.workspace, i.id, $5::smallint, i.version, 0, i.class, 'Found by reconcile.', now()
FROM (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[])
        AS i (workspace, id, version, class)
    ORDER BY id
) AS i
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.memory m
    WHERE m.workspace = i.workspace AND m.id = i.id AND m.version = i.version
      AND m.state = 'active'
    FOR SHARE OF m
) AS m
WHERE NOT EXISTS (SELECT 1 FROM {vectors} v
                  WHERE v.workspace = i.workspace AND v.memory_id = i.id AND v.version = i.version)
ON CONFLICT (workspace, memory_id, space) DO UPDATE
    SET version = excluded.version, attempts = excluded.attempts, class = excluded.class,
        error = excluded.error, next_attempt = excluded.next_attempt, dead = false,
        discarded_at = NULL, first_at = now(), last_at = now()
    WHERE e.version < excluded.version
