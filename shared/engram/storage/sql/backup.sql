-- name: bypasses
-- Row-level security hides every row from everyone else, the owner of the tables included.
SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user

-- name: about
SELECT current_setting('server_version_num')::integer AS server_version_num,
       current_setting('server_version') AS postgres,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector

-- name: tables
-- Every table of ours with its primary key; unlogged ones hold nothing that survives a crash.
SELECT n.nspname AS schema, c.relname AS name,
       array_agg(a.attname ORDER BY k.place) AS key_columns,
       array_agg(a.attcollation <> 0 ORDER BY k.place) AS key_texts
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE n.nspname IN ('engram', 'engram_vec') AND c.relkind = 'r' AND c.relpersistence = 'p'
GROUP BY n.nspname, c.relname
ORDER BY n.nspname, c.relname

-- name: schemas
SELECT nspname FROM pg_namespace WHERE nspname IN ('engram', 'engram_vec') ORDER BY nspname

-- name: give
-- What a backup restores belongs to whoever restored it; this gives it to whom it belongs: the
-- vectors to engram_vec, the rest to the login that engram uses. Sequences follow their tables.
DO $$
DECLARE
    one record;
BEGIN
    EXECUTE format('ALTER SCHEMA engram OWNER TO %I', '{owner}');
    ALTER SCHEMA engram_vec OWNER TO engram_vec;
    FOR one IN
        SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('engram', 'engram_vec') AND c.relkind IN ('r', 'p', 'v')
    LOOP
        EXECUTE format('ALTER TABLE %I.%I OWNER TO %I', one.nspname, one.relname,
            CASE one.nspname WHEN 'engram' THEN '{owner}' ELSE 'engram_vec' END);
    END LOOP;
    FOR one IN
        SELECT p.oid::regprocedure AS signature FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'engram'
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', one.signature, '{owner}');
    END LOOP;
END
$$

-- name: drop
DROP SCHEMA IF EXISTS engram, engram_vec CASCADE
