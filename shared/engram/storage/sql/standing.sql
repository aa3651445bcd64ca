-- name: store
-- How the database stands, in one look: its schema, whether it takes writes, and what would let
-- somebody past row-level security. The role must not; the login behind it should not.
SELECT coalesce((SELECT max(version) FROM engram.schema_version), 0) AS schema_version,
       pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only,
       ARRAY(SELECT r.rolname FROM pg_roles r
             WHERE r.rolname = ANY ($1::text[]) AND (r.rolsuper OR r.rolbypassrls)
             ORDER BY r.rolname)::text[] AS unbound_roles,
       (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles r WHERE r.rolname = session_user)
           AS unbound_login

-- name: dimensions
-- Spaces whose table holds vectors of another length than the space says.
SELECT s.key
FROM engram.space s
JOIN pg_attribute a
  ON a.attrelid = to_regclass('engram_vec.space_' || s.id) AND a.attname = 'embedding'
WHERE a.atttypmod <> s.dimensions
ORDER BY s.id
