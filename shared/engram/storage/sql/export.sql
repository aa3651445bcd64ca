-- name: last_id
-- Where an export ends: what is stored after this has a higher id, unless an import brings its own.
SELECT m.id FROM engram.memory m
WHERE m.workspace = $1 AND ($2::text IS NULL OR m.namespace = $2)
ORDER BY m.id DESC
LIMIT 1

-- name: page
SELECT m.id, m.namespace, m.content, m.state, m.user_id, m.agent_id, m.session_id, m.app_id,
       m.metadata, m.categories, m.importance, m.pinned, m.source, m.external_id, m.merged_into,
       m.created_at, m.updated_at, m.expires_at, m.valid_until, m.last_accessed_at,
       m.access_count, m.reinforced_at
FROM engram.memory m
WHERE m.workspace = $1 AND m.id > $2 AND m.id <= $3 AND m.state = ANY ($4::text[])
  AND ($5::text IS NULL OR m.namespace = $5)
ORDER BY m.id
LIMIT $6

-- name: current
-- Those of a page that have a current vector.
SELECT m.id
FROM unnest($2::uuid[]) AS w (id)
CROSS JOIN LATERAL (
    SELECT m.id, m.version FROM engram.memory m
    WHERE m.workspace = $1 AND m.id = w.id
    OFFSET 0
) AS m
CROSS JOIN LATERAL (
    SELECT v.version FROM {vectors} v WHERE v.workspace = $1 AND v.memory_id = w.id OFFSET 0
) AS v
WHERE v.version = m.version
