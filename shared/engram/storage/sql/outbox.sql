-- name: claim
SELECT id, uuid, subject, payload
FROM engram.outbox
WHERE id > $1
ORDER BY id
LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: delete
DELETE FROM engram.outbox WHERE id = ANY ($1::bigint[])

-- name: depth
-- Bounded: beyond what closes the door the exact number no longer matters.
SELECT count(*) FROM (SELECT 1 FROM engram.outbox LIMIT $1) AS waiting

-- name: depth_by_workspace
SELECT workspace, count(*) AS lines
FROM (SELECT workspace FROM engram.outbox LIMIT 1000000) AS waiting
GROUP BY workspace
