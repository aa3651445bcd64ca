-- name: insert
INSERT INTO engram.audit (workspace, id, actor, action, counts, subject, format, version, duration_s)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: page
-- Newest first: ids are uuid v7, so their order is the order of time.
SELECT a.id, a.actor, a.action, a.subject, a.counts, a.format, a.version, a.duration_s, a.at
FROM engram.audit a
WHERE a.workspace = $1 AND a.id < $2
  AND ($3::text IS NULL OR split_part(a.action, '.', 1) = $3)
  AND ($4::timestamptz IS NULL OR a.at >= $4)
ORDER BY a.id DESC
LIMIT $5
