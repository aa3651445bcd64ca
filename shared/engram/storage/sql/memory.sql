-- name: columns
m.id, m.namespace, m.content, m.version, m.state, m.user_id, m.agent_id, m.session_id, m.app_id,
m.metadata, m.categories, m.importance, m.pinned, m.source, m.external_id, m.merged_into,
m.created_at, m.updated_at, m.expires_at, m.valid_until, m.last_accessed_at, m.access_count,
v.version IS NOT DISTINCT FROM m.version AS embedded

-- name: by_ids
SELECT {columns}
FROM unnest($2::uuid[]) AS w (id)
CROSS JOIN LATERAL (
    SELECT * FROM engram.memory m
    WHERE m.workspace = $1 AND m.id = w.id AND m.state NOT IN ('deleted', 'staged')
    OFFSET 0
) AS m
LEFT JOIN LATERAL (
    SELECT v.version FROM {vectors} v WHERE v.workspace = $1 AND v.memory_id = w.id OFFSET 0
) AS v ON true

-- name: page
SELECT {columns}
FROM (
    SELECT * FROM engram.memory m
    WHERE m.workspace = $1 AND m.id > $2 AND m.state = ANY ($4::text[])
      AND (m.expires_at IS NULL OR m.expires_at > now())
      {where}
    ORDER BY m.id
    LIMIT $3
) AS m
LEFT JOIN LATERAL (
    SELECT v.version FROM {vectors} v WHERE v.workspace = $1 AND v.memory_id = m.id OFFSET 0
) AS v ON true
ORDER BY m.id

-- name: lock
SELECT m.id, m.namespace, m.version, m.state, m.content, m.content_sha256, m.versioned_at,
       m.versioned_by
FROM engram.memory m
WHERE m.workspace = $1 AND m.id = $2
FOR UPDATE

-- name: keep_revision
INSERT INTO engram.memory_revision (workspace, memory_id, version, content, event, at, actor)
SELECT m.workspace, m.id, m.version, m.content,
       CASE WHEN m.version = 1 THEN 'created' ELSE 'updated' END, m.versioned_at, m.versioned_by
FROM engram.memory m
WHERE m.workspace = $1 AND m.id = $2

-- name: change_content
UPDATE engram.memory
SET content = $3, content_sha256 = $4, fold_hash = $5, version = version + 1,
    versioned_at = $6, versioned_by = $7, updated_at = $6, reinforced_at = $6
WHERE workspace = $1 AND id = $2
RETURNING version

-- name: erase
-- What remains is a tombstone: ids and names, so that nothing late can revive it, and no content.
UPDATE engram.memory
SET state = 'deleted', version = version + 1, content = '', content_sha256 = '', fold_hash = NULL,
    metadata = '{}', categories = '{}', merged_into = NULL, updated_at = $3, versioned_at = $3,
    versioned_by = $4
WHERE workspace = $1 AND id = ANY ($2::uuid[]) AND state <> 'deleted'
RETURNING id, version

-- name: lock_with_absorbed
-- The memory and all it absorbed, directly or through others, in ascending id.
WITH RECURSIVE family AS (
    SELECT m.id FROM engram.memory m
    WHERE m.workspace = $1 AND m.id = $2 AND m.state NOT IN ('deleted', 'staged')
    UNION
    SELECT b.memory_id
    FROM family f
    JOIN engram.merge g ON g.workspace = $1 AND g.survivor = f.id AND g.undone_at IS NULL
    JOIN engram.merge_member b ON b.workspace = $1 AND b.merge_id = g.id AND b.undone_at IS NULL
)
SELECT m.id, m.version
FROM engram.memory m
WHERE m.workspace = $1 AND m.id IN (SELECT id FROM family) AND m.state <> 'deleted'
ORDER BY m.id
FOR UPDATE

-- name: erase_revisions
DELETE FROM engram.memory_revision WHERE workspace = $1 AND memory_id = ANY ($2::uuid[])

-- name: erase_failures
DELETE FROM engram.embedding_failure WHERE workspace = $1 AND memory_id = ANY ($2::uuid[])

-- name: erase_images
UPDATE engram.merge_member SET before = '{}', evidence = '{}'
WHERE workspace = $1 AND memory_id = ANY ($2::uuid[])

-- name: erase_evidence
-- What the guard said of a pair quotes both.
UPDATE engram.merge_member b SET evidence = '{}'
FROM engram.merge g
WHERE g.workspace = $1 AND g.survivor = ANY ($2::uuid[])
  AND b.workspace = $1 AND b.merge_id = g.id AND b.evidence <> '{}'

-- name: erase_proposals
DELETE FROM engram.proposal
WHERE workspace = $1 AND (low = ANY ($2::uuid[]) OR high = ANY ($2::uuid[]))

-- name: erase_conflicts
DELETE FROM engram.conflict
WHERE workspace = $1 AND (low = ANY ($2::uuid[]) OR high = ANY ($2::uuid[]))

-- name: erase_answers
-- 410 stays: a repeat of the request must not store again what was deleted.
UPDATE engram.idempotency SET status = 410, body = ''
WHERE workspace = $1 AND memory_id = ANY ($2::uuid[])

-- name: erase_vectors
DELETE FROM {vectors} WHERE workspace = $1 AND memory_id = ANY ($2::uuid[])

-- name: history
SELECT version, content, event, at, actor
FROM engram.memory_revision
WHERE workspace = $1 AND memory_id = $2
UNION ALL
SELECT m.version, m.content, CASE WHEN m.version = 1 THEN 'created' ELSE 'updated' END,
       m.versioned_at, m.versioned_by
FROM engram.memory m
WHERE m.workspace = $1 AND m.id = $2 AND m.state NOT IN ('deleted', 'staged')
ORDER BY version

-- name: counts
SELECT state, count(*) AS memories
FROM engram.memory
WHERE workspace = $1
GROUP BY state

-- name: vector_counts
SELECT count(v.memory_id) FILTER (WHERE v.version = m.version) AS current,
       count(*) FILTER (WHERE v.version IS DISTINCT FROM m.version AND NOT coalesce(f.dead, false))
           AS pending,
       count(*) FILTER (WHERE v.version IS DISTINCT FROM m.version AND f.dead) AS dead
FROM engram.memory m
LEFT JOIN {vectors} v ON v.workspace = m.workspace AND v.memory_id = m.id
LEFT JOIN engram.embedding_failure f
    ON f.workspace = m.workspace AND f.memory_id = m.id AND f.space = $2
       AND f.version = m.version
WHERE m.workspace = $1 AND m.state = 'active'

-- name: read_from
-- Which space each of these memories is read from: its namespace's own, or the workspace's.
SELECT coalesce(n.read_space, w.read_space) AS space, array_agg(m.id) AS ids
FROM unnest($2::uuid[]) AS i (id)
CROSS JOIN LATERAL (
    SELECT m.id, m.namespace FROM engram.memory m WHERE m.workspace = $1 AND m.id = i.id OFFSET 0
) AS m
JOIN engram.workspace w ON w.id = $1
LEFT JOIN LATERAL (
    SELECT n.read_space FROM engram.namespace n
    WHERE n.workspace = $1 AND n.name = m.namespace
    OFFSET 0
) AS n ON true
GROUP BY 1

-- name: are_embedded
SELECT count(*)
FROM unnest($2::uuid[]) AS w (id)
CROSS JOIN LATERAL (
    SELECT m.version FROM engram.memory m
    WHERE m.workspace = $1 AND m.id = w.id AND m.state = 'active'
    OFFSET 0
) AS m
LEFT JOIN LATERAL (
    SELECT v.version FROM {vectors} v WHERE v.workspace = $1 AND v.memory_id = w.id OFFSET 0
) AS v ON true
WHERE v.version IS DISTINCT FROM m.version
