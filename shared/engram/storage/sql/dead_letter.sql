-- name: failure_columns
f.memory_id AS at_id, f.space AS at_space, 'embedding' AS kind, f.class, f.error, f.attempts,
f.first_at, f.last_at, f.discarded_at, f.memory_id, s.key AS space, NULL AS subject

-- name: letter_columns
d.id AS at_id, 0 AS at_space, d.kind, d.code AS class, d.detail AS error, d.attempts,
d.created_at AS first_at, d.last_at, NULL::timestamptz AS discarded_at, NULL::uuid AS memory_id,
NULL AS space, d.subject

-- name: failure_page
SELECT {columns}
FROM engram.embedding_failure f JOIN engram.space s ON s.id = f.space
WHERE f.workspace = $1 AND f.dead AND (f.discarded_at IS NOT NULL) = $5
  AND (f.memory_id, f.space) > ($2, $3::smallint) AND ($4::text IS NULL OR f.class = $4)
ORDER BY f.memory_id, f.space
LIMIT $6

-- name: letter_page
SELECT {columns}
FROM engram.dead_letter d
WHERE d.workspace = $1 AND d.kind = 'ingest' AND d.id >= $2 AND (d.id, 0) > ($2, $3::smallint)
  AND ($4::text IS NULL OR d.code = $4) AND NOT $5::boolean
ORDER BY d.id
LIMIT $6

-- name: failures_named
-- LATERAL … OFFSET 0 fixes the plan (see write.sql).
SELECT {columns}
FROM unnest($2::uuid[], $3::smallint[]) AS w (at_id, at_space)
CROSS JOIN LATERAL (
    SELECT * FROM engram.embedding_failure f
    WHERE f.workspace = $1 AND f.memory_id = w.at_id AND f.space = w.at_space AND f.dead
    OFFSET 0
) AS f
JOIN engram.space s ON s.id = f.space

-- name: letters_named
SELECT {columns}
FROM unnest($2::uuid[]) AS w (id)
CROSS JOIN LATERAL (
    SELECT * FROM engram.dead_letter d
    WHERE d.workspace = $1 AND d.id = w.id AND d.kind = 'ingest'
    OFFSET 0
) AS d

-- name: payload
SELECT subject, code, detail, attempts, payload FROM engram.dead_letter
WHERE workspace = $1 AND id = $2 AND kind = 'ingest'

-- name: lock_memories
-- Memories before their failures, in ascending id, as everywhere.
SELECT m.id
FROM (SELECT DISTINCT id FROM unnest($2::uuid[]) AS w (id) ORDER BY id) AS w
CROSS JOIN LATERAL (
    SELECT m.id FROM engram.memory m WHERE m.workspace = $1 AND m.id = w.id FOR SHARE OF m
) AS m

-- name: live_failures
-- Those whose memory is live and still has the text that failed.
SELECT f.memory_id, f.space
FROM unnest($2::uuid[], $3::smallint[]) AS w (memory_id, space)
CROSS JOIN LATERAL (
    SELECT f.memory_id, f.space, f.version FROM engram.embedding_failure f
    WHERE f.workspace = $1 AND f.memory_id = w.memory_id AND f.space = w.space AND f.dead
    OFFSET 0
) AS f
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.memory m
    WHERE m.workspace = $1 AND m.id = f.memory_id AND m.version = f.version AND m.state = 'active'
    OFFSET 0
) AS m

-- name: revive_failures
-- Due at once and as if never tried: the embedder claims due rows every second.
UPDATE engram.embedding_failure f
SET attempts = 0, dead = false, discarded_at = NULL, next_attempt = now()
FROM unnest($2::uuid[], $3::smallint[]) AS w (memory_id, space)
WHERE f.workspace = $1 AND f.memory_id = w.memory_id AND f.space = w.space AND f.dead
RETURNING f.memory_id

-- name: drop_failures
DELETE FROM engram.embedding_failure f
USING unnest($2::uuid[], $3::smallint[]) AS w (memory_id, space)
WHERE f.workspace = $1 AND f.memory_id = w.memory_id AND f.space = w.space AND f.dead
RETURNING f.memory_id

-- name: discard_failures
-- The row stays: without it reconcile would find the memory and send it to the provider again.
UPDATE engram.embedding_failure f
SET discarded_at = coalesce(f.discarded_at, now())
FROM unnest($2::uuid[], $3::smallint[]) AS w (memory_id, space)
WHERE f.workspace = $1 AND f.memory_id = w.memory_id AND f.space = w.space AND f.dead
RETURNING f.memory_id

-- name: remove_letters
DELETE FROM engram.dead_letter
WHERE workspace = $1 AND id = ANY ($2::uuid[]) AND kind = 'ingest'
RETURNING id

-- name: fail_again
UPDATE engram.dead_letter
SET code = $3, detail = $4, payload = $5, attempts = attempts + 1, last_at = now()
WHERE workspace = $1 AND id = $2
RETURNING id
