-- name: count
-- In ascending id, and never waiting: what somebody holds comes back with the next flush. No
-- version, no event, no index: the update stays HOT. A memory that was archived or erased since it
-- was found is left alone.
WITH locked AS (
    SELECT w.workspace, w.id, w.hits, w.at
    FROM (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[])
              AS w (workspace, id, hits, at)
          ORDER BY id, workspace) AS w
    CROSS JOIN LATERAL (
        SELECT 1 FROM engram.memory m
        WHERE m.workspace = w.workspace AND m.id = w.id AND m.state = 'active'
        FOR NO KEY UPDATE OF m SKIP LOCKED
    ) AS m
)
UPDATE engram.memory m
SET access_count = least(m.access_count::bigint + l.hits, 2147483647)::integer,
    last_accessed_at = greatest(m.last_accessed_at, l.at),
    reinforced_at = greatest(m.reinforced_at, l.at)
FROM locked l
WHERE m.workspace = l.workspace AND m.id = l.id
RETURNING m.workspace, m.id

-- name: there
SELECT w.workspace, w.id
FROM unnest($1::uuid[], $2::uuid[]) AS w (workspace, id)
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.id = w.id AND m.state = 'active'
    OFFSET 0
) AS m
