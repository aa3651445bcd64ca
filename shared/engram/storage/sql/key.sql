-- name: find
SELECT k.id, k.workspace, k.secret_sha256, k.scopes, w.name AS workspace_name
FROM engram.api_key k JOIN engram.workspace w ON w.id = k.workspace
WHERE k.id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())

-- name: insert
INSERT INTO engram.api_key (id, workspace, name, secret_sha256, scopes, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id, name, scopes, created_at, expires_at, revoked_at

-- name: list
SELECT id, name, scopes, created_at, expires_at, revoked_at
FROM engram.api_key
WHERE workspace = $1 AND id > $2
ORDER BY id
LIMIT $3

-- name: revoke
UPDATE engram.api_key SET revoked_at = coalesce(revoked_at, now())
WHERE workspace = $1 AND id = $2
RETURNING id, name, scopes, created_at, expires_at, revoked_at

-- name: workspace
SELECT id, name FROM engram.workspace WHERE name = $1
