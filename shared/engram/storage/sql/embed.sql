-- name: wanting
-- Which of these memories lack a current vector in this space, the text to embed, and whether
-- another says the same. LATERAL … OFFSET 0 fixes the plan (see write.sql). A column whose values are
-- all alike comes as its first alone (storage/columns).
SELECT w.workspace, w.id, m.version, m.content, coalesce(f.attempts, 0) AS attempts,
       NULL::timestamptz AS first_at, t.id IS NOT NULL AS may_repeat
FROM (SELECT DISTINCT coalesce(w.workspace, ($1::uuid[])[1]) AS workspace,
                      coalesce(w.id, ($2::uuid[])[1]) AS id
      FROM unnest($1::uuid[], $2::uuid[]) AS w (workspace, id)) AS w
CROSS JOIN LATERAL (
    SELECT m.version, m.content, m.fold_hash, m.content_sha256 FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.id = w.id AND m.state = 'active'
    OFFSET 0
) AS m
LEFT JOIN LATERAL (
    SELECT v.version FROM {vectors} v
    WHERE v.workspace = w.workspace AND v.memory_id = w.id
    OFFSET 0
) AS v ON true
LEFT JOIN LATERAL (
    SELECT f.attempts, f.next_attempt, f.dead FROM engram.embedding_failure f
    WHERE f.workspace = w.workspace AND f.memory_id = w.id AND f.space = $3
      AND f.version = m.version
    OFFSET 0
) AS f ON true
LEFT JOIN LATERAL (
    SELECT t.id FROM engram.memory t
    WHERE t.workspace = w.workspace AND t.fold_hash = m.fold_hash
      AND t.content_sha256 = m.content_sha256 AND t.id <> w.id AND t.state = 'active'
    LIMIT 1
) AS t ON true
WHERE v.version IS DISTINCT FROM m.version
  AND NOT coalesce(f.dead, false)
  AND (f.next_attempt IS NULL OR f.next_attempt <= now())
ORDER BY w.id

-- name: store
-- The write protocol. A vector is stored only while its memory still has the version whose text
-- was embedded, is live, and the space is in use; share locks hold that until commit. Rows are
-- locked in ascending id. What does not come back was not stored. While the space is fenced nothing is
-- stored in a namespace that is being cut over. A fence that was set after this statement had its
-- snapshot is seen in the locked row alone: then nothing is stored, and it is begun again.
INSERT INTO {vectors} AS s (workspace, namespace, memory_id, version, embedding, model)
SELECT i.workspace, m.namespace, i.id, i.version, i.embedding, i.model
FROM (
    SELECT p.fenced_until > now() AS is_fenced FROM engram.space p
    WHERE p.id = $6 AND p.state = 'active'
      AND p.fenced_until = (SELECT q.fenced_until FROM engram.space q WHERE q.id = $6)
    FOR SHARE OF p
) AS p
CROSS JOIN (
    SELECT coalesce(i.workspace, ($1::uuid[])[1]) AS workspace, i.id,
           coalesce(i.version, ($3::int[])[1]) AS version,
           coalesce(i.model, ($4::smallint[])[1]) AS model, i.embedding
    FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::smallint[], $5::halfvec[])
        AS i (workspace, id, version, model, embedding)
    ORDER BY i.id
) AS i
CROSS JOIN LATERAL (
    SELECT m.namespace FROM engram.memory m
    WHERE m.workspace = i.workspace AND m.id = i.id AND m.version = i.version
      AND m.state = 'active'
      AND (NOT p.is_fenced OR NOT EXISTS (
          SELECT 1 FROM engram.namespace n
          WHERE n.workspace = m.workspace AND n.name = m.namespace AND n.phase = 'cutting'))
    FOR SHARE OF m
) AS m
ON CONFLICT (workspace, memory_id) DO UPDATE
    SET version = excluded.version, embedding = excluded.embedding, seq = excluded.seq,
        model = excluded.model
    WHERE s.version < excluded.version
RETURNING workspace, memory_id, version

-- name: defer
-- What was embedded and not stored although it still waits for it: its namespace is being cut over.
-- No attempt is counted. The cutover makes it due when it ends; what is deferred only after that is
-- looked at again soon.
INSERT INTO engram.embedding_failure AS e
    (workspace, memory_id, space, version, attempts, class, error, next_attempt)
SELECT i.workspace, i.id, p.id, i.version, i.attempts, 'cutting', 'Its namespace is being cut over.',
       greatest(now(), least(p.fenced_until, now() + interval '2 seconds'))
FROM (SELECT p.id, p.fenced_until FROM engram.space p WHERE p.id = $5 AND p.state = 'active') AS p
CROSS JOIN (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[])
        AS i (workspace, id, version, attempts)
    ORDER BY id
) AS i
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.memory m
    WHERE m.workspace = i.workspace AND m.id = i.id AND m.version = i.version
      AND m.state = 'active'
    FOR SHARE OF m
) AS m
WHERE NOT EXISTS (SELECT 1 FROM {vectors} v
                  WHERE v.workspace = i.workspace AND v.memory_id = i.id
                    AND v.version = i.version)
ON CONFLICT (workspace, memory_id, space) DO UPDATE
    SET version = excluded.version, attempts = excluded.attempts, class = excluded.class,
        error = excluded.error, next_attempt = excluded.next_attempt, dead = false,
        discarded_at = NULL, last_at = now()
RETURNING e.memory_id

-- name: clear_failures
DELETE FROM engram.embedding_failure f
USING unnest($1::uuid[], $2::uuid[]) AS d (workspace, id)
WHERE f.workspace = coalesce(d.workspace, ($1::uuid[])[1])
  AND f.memory_id = coalesce(d.id, ($2::uuid[])[1]) AND f.space = $3

-- name: record_failures
-- Only for the version that was tried, while it is live: a failure of what is gone is not kept.
INSERT INTO engram.embedding_failure AS e
    (workspace, memory_id, space, version, attempts, class, error, next_attempt, dead)
SELECT i.workspace, i.id, $9, i.version, i.attempts, i.class, i.error, i.next_attempt, i.dead
FROM (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::text[], $6::text[],
                         $7::timestamptz[], $8::bool[])
        AS i (workspace, id, version, attempts, class, error, next_attempt, dead)
    ORDER BY id
) AS i
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.memory m
    WHERE m.workspace = i.workspace AND m.id = i.id AND m.version = i.version
      AND m.state = 'active'
    FOR SHARE OF m
) AS m
ON CONFLICT (workspace, memory_id, space) DO UPDATE
    SET version = excluded.version, attempts = excluded.attempts, class = excluded.class,
        error = excluded.error, next_attempt = excluded.next_attempt, dead = excluded.dead,
        discarded_at = NULL,
        first_at = CASE WHEN e.version = excluded.version THEN e.first_at ELSE now() END,
        last_at = now()

-- name: failed
SELECT w.workspace, w.id
FROM (SELECT DISTINCT workspace, id FROM unnest($1::uuid[], $2::uuid[]) AS w (workspace, id)) AS w
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.embedding_failure f
    WHERE f.workspace = w.workspace AND f.memory_id = w.id AND f.space = $3
    OFFSET 0
) AS f

-- name: due
-- Claimed by moving the due time on: a worker that dies only delays its claims. In turn over
-- workspaces ($3 was served last), so that one's million retries do not hold up another's one.
UPDATE engram.embedding_failure f
SET next_attempt = now() + interval '60 seconds'
FROM (SELECT workspace, memory_id, space
      FROM engram.embedding_failure
      WHERE space = $1 AND workspace > $3 AND NOT dead AND next_attempt <= now()
      ORDER BY workspace, next_attempt
      LIMIT $2
      FOR UPDATE SKIP LOCKED) AS d
WHERE f.workspace = d.workspace AND f.memory_id = d.memory_id AND f.space = d.space
RETURNING f.workspace, f.memory_id, f.version, f.attempts, f.first_at

-- name: texts
SELECT w.workspace, w.id, m.version, m.content, w.attempts
FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS w (workspace, id, attempts)
CROSS JOIN LATERAL (
    SELECT m.version, m.content FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.id = w.id AND m.state = 'active'
    OFFSET 0
) AS m
LEFT JOIN LATERAL (
    SELECT v.version FROM {vectors} v
    WHERE v.workspace = w.workspace AND v.memory_id = w.id
    OFFSET 0
) AS v ON true
WHERE v.version IS DISTINCT FROM m.version
ORDER BY w.id

-- name: twins
-- A current vector of an equal text in the same workspace may be used again.
SELECT DISTINCT ON (w.workspace, w.content_sha256)
       w.workspace, w.content_sha256, v.embedding, v.model
FROM (SELECT DISTINCT workspace, fold_hash, content_sha256
      FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS w (workspace, fold_hash, content_sha256)
     ) AS w
CROSS JOIN LATERAL (
    SELECT m.id, m.version FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.fold_hash = w.fold_hash
      AND m.content_sha256 = w.content_sha256 AND m.state = 'active'
    OFFSET 0
) AS m
CROSS JOIN LATERAL (
    SELECT v.embedding, v.model FROM {vectors} v
    WHERE v.workspace = w.workspace AND v.memory_id = m.id AND v.version = m.version
    OFFSET 0
) AS v
