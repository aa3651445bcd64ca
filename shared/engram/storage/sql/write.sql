-- name: claim_keys
-- Sorted by the caller: unsorted claims deadlock. What comes back is what this transaction won.
INSERT INTO engram.idempotency (workspace, key, request_sha256, status, body)
SELECT k.workspace, k.key, k.request_sha256, 0, ''
FROM unnest($1::uuid[], $2::text[], $3::bytea[]) AS k (workspace, key, request_sha256)
ON CONFLICT DO NOTHING
RETURNING workspace, key

-- name: saved_answers
SELECT i.workspace, i.key, i.request_sha256, i.status, i.body
FROM engram.idempotency i
JOIN unnest($1::uuid[], $2::text[]) AS k (workspace, key) USING (workspace, key)

-- name: save_answers
UPDATE engram.idempotency i
SET status = a.status, body = a.body, memory_id = a.memory_id
FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::bytea[], $5::uuid[])
    AS a (workspace, key, status, body, memory_id)
WHERE i.workspace = a.workspace AND i.key = a.key

-- name: release_keys
DELETE FROM engram.idempotency i
USING unnest($1::uuid[], $2::text[]) AS k (workspace, key)
WHERE i.workspace = k.workspace AND i.key = k.key

-- name: ensure_namespaces
INSERT INTO engram.namespace (workspace, name)
SELECT n.workspace, n.name FROM unnest($1::uuid[], $2::text[]) AS n (workspace, name)
ON CONFLICT DO NOTHING

-- name: lock_namespaces
-- One writer at a time in a namespace, so that two equal texts cannot arrive side by side unseen.
-- LATERAL … OFFSET 0 here and below is a fixed plan: one index look-up for each wanted row, in the
-- order given. Left to itself the planner reads the whole workspace, because row-level security
-- offers it a condition on the workspace alone.
SELECT count(*)
FROM unnest($1::uuid[], $2::text[]) AS w (workspace, name)
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.namespace n
    WHERE n.workspace = w.workspace AND n.name = w.name
    FOR NO KEY UPDATE OF n
) AS locked

-- name: known_by_external_id
-- A column whose values are all alike comes as its first alone (storage/columns). OFFSET 0: row-level
-- security keeps an expression out of the index's condition, but not a column.
SELECT w.workspace, w.source, w.external_id, m.id, m.version, m.state, m.content_sha256
FROM (
    SELECT coalesce(w.workspace, ($1::uuid[])[1]) AS workspace,
           coalesce(w.source, ($2::text[])[1]) AS source,
           coalesce(w.external_id, ($3::text[])[1]) AS external_id
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS w (workspace, source, external_id)
    OFFSET 0
) AS w
CROSS JOIN LATERAL (
    SELECT a.memory_id FROM engram.memory_alias a
    WHERE a.workspace = w.workspace AND a.source = w.source AND a.external_id = w.external_id
    OFFSET 0
) AS a
CROSS JOIN LATERAL (
    SELECT m.id, m.version, m.state, m.content_sha256 FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.id = a.memory_id
    OFFSET 0
) AS m

-- name: known_by_id
SELECT w.workspace, m.id, m.version, m.state, m.content_sha256
FROM unnest($1::uuid[], $2::uuid[]) AS w (workspace, id)
CROSS JOIN LATERAL (
    SELECT m.id, m.version, m.state, m.content_sha256 FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.id = w.id
    OFFSET 0
) AS m

-- name: known_by_id_in_full
SELECT w.workspace, m.id, m.version, m.state, m.content_sha256,
       m.metadata, m.categories, m.importance, m.pinned, m.expires_at, m.valid_until,
       m.namespace, m.source AS memory_source, m.merged_into
FROM unnest($1::uuid[], $2::uuid[]) AS w (workspace, id)
CROSS JOIN LATERAL (
    SELECT * FROM engram.memory m WHERE m.workspace = w.workspace AND m.id = w.id OFFSET 0
) AS m

-- name: known_in_full
-- By external id, with what a merge compares.
SELECT w.workspace, w.source, w.external_id, m.id, m.version, m.state, m.content_sha256,
       m.metadata, m.categories, m.importance, m.pinned, m.expires_at, m.valid_until,
       m.namespace, m.source AS memory_source, m.merged_into
FROM (
    SELECT coalesce(w.workspace, ($1::uuid[])[1]) AS workspace,
           coalesce(w.source, ($2::text[])[1]) AS source,
           coalesce(w.external_id, ($3::text[])[1]) AS external_id
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS w (workspace, source, external_id)
    OFFSET 0
) AS w
CROSS JOIN LATERAL (
    SELECT a.memory_id FROM engram.memory_alias a
    WHERE a.workspace = w.workspace AND a.source = w.source AND a.external_id = w.external_id
    OFFSET 0
) AS a
CROSS JOIN LATERAL (
    SELECT * FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.id = a.memory_id
    OFFSET 0
) AS m

-- name: known_by_fold
-- Oldest first, active before archived: the same repeat always finds the same memory.
SELECT DISTINCT ON (w.workspace, m.namespace, m.user_id, m.agent_id, m.session_id, m.app_id,
                    w.fold_hash)
    w.workspace, m.namespace, m.user_id, m.agent_id, m.session_id, m.app_id, w.fold_hash,
    m.id, m.version, m.state, m.content_sha256
FROM (SELECT DISTINCT coalesce(w.workspace, ($1::uuid[])[1]) AS workspace,
                      coalesce(w.fold_hash, ($2::bytea[])[1]) AS fold_hash
      FROM unnest($1::uuid[], $2::bytea[]) AS w (workspace, fold_hash)) AS w
CROSS JOIN LATERAL (
    SELECT * FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.fold_hash = w.fold_hash
      AND m.state IN ('active', 'archived') AND (m.expires_at IS NULL OR m.expires_at > $3)
    OFFSET 0
) AS m
ORDER BY w.workspace, m.namespace, m.user_id, m.agent_id, m.session_id, m.app_id, w.fold_hash,
         m.state, m.id

-- name: staged_by_fold
-- What the set that a job loads holds so far: rows staged by it, and old ones it keeps.
SELECT DISTINCT ON (w.workspace, m.namespace, m.user_id, m.agent_id, m.session_id, m.app_id,
                    w.fold_hash)
    w.workspace, m.namespace, m.user_id, m.agent_id, m.session_id, m.app_id, w.fold_hash,
    m.id, m.version, 'active' AS state, m.content_sha256
FROM (SELECT DISTINCT workspace, fold_hash
      FROM unnest($1::uuid[], $2::bytea[]) AS w (workspace, fold_hash)) AS w
CROSS JOIN LATERAL (
    SELECT * FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.fold_hash = w.fold_hash
      AND m.state IN ('active', 'staged') AND m.merged_into IS NULL
    OFFSET 0
) AS m
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.import_item i
    WHERE i.workspace = w.workspace AND i.job_id = $3 AND i.memory_id = m.id
      AND (i.role = 'kept' OR i.becomes = 'active')
    OFFSET 0
) AS i
ORDER BY w.workspace, m.namespace, m.user_id, m.agent_id, m.session_id, m.app_id, w.fold_hash, m.id

-- name: staged_by_name
-- The rows that a job has staged under these names: they get their aliases when they take over.
SELECT w.workspace, w.source, w.external_id, m.id, m.version, m.state, m.content_sha256,
       m.metadata, m.categories, m.importance, m.pinned, m.expires_at, m.valid_until,
       m.namespace, m.source AS memory_source, m.merged_into
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS w (workspace, source, external_id)
CROSS JOIN LATERAL (
    SELECT i.memory_id FROM engram.import_item i
    WHERE i.workspace = w.workspace AND i.job_id = $4
      AND i.name_sha256 = sha256(convert_to(w.source || chr(31) || w.external_id, 'UTF8'))
    OFFSET 0
) AS i
CROSS JOIN LATERAL (
    SELECT * FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.id = i.memory_id AND m.state = 'staged'
    OFFSET 0
) AS m

-- name: insert_memories
-- A column whose values are all alike comes as its first alone, an empty one without any.
INSERT INTO engram.memory (
    workspace, id, namespace, version, state, content, content_sha256, fold_hash,
    user_id, agent_id, session_id, app_id, metadata, categories, importance, pinned,
    source, external_id, merged_into, created_at, updated_at, versioned_at, versioned_by,
    expires_at, valid_until, reinforced_at, last_accessed_at, access_count)
SELECT
    coalesce(r.workspace, ($1::uuid[])[1]), r.id, coalesce(r.namespace, ($3::text[])[1]), 1,
    coalesce(r.state, ($4::text[])[1]), r.content, r.content_sha256,
    coalesce(r.fold_hash, substring(r.content_sha256 FOR 16)),
    r.user_id, r.agent_id, r.session_id, r.app_id,
    coalesce(r.metadata, ($12::text[])[1])::jsonb, coalesce(r.categories, ($13::text[])[1])::text[],
    coalesce(r.importance, ($14::float8[])[1]), coalesce(r.pinned, ($15::bool[])[1]),
    coalesce(r.source, ($16::text[])[1]), r.external_id, r.merged_into,
    coalesce(r.created_at, ($19::timestamptz[])[1]),
    coalesce(r.updated_at, ($20::timestamptz[])[1]),
    $24, coalesce(r.actor, ($21::text[])[1]), r.expires_at, r.valid_until,
    coalesce(r.reinforced_at, r.last_accessed_at, $24), r.last_accessed_at,
    coalesce(r.access_count, ($26::int[])[1])
FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
    $14::float8[], $15::bool[], $16::text[], $17::text[], $18::uuid[], $19::timestamptz[],
    $20::timestamptz[], $21::text[], $22::timestamptz[], $23::timestamptz[],
    $25::timestamptz[], $26::int[], $27::timestamptz[]
) AS r (workspace, id, namespace, state, content, content_sha256, fold_hash,
        user_id, agent_id, session_id, app_id, metadata, categories,
        importance, pinned, source, external_id, merged_into, created_at,
        updated_at, actor, expires_at, valid_until, last_accessed_at, access_count,
        reinforced_at)

-- name: insert_aliases
-- Workspace and source may come once for all, as above. In the order given, that of the index: who
-- gives the same names waits instead of deadlocking. How many were inserted says whether all were
-- new.
INSERT INTO engram.memory_alias (workspace, source, external_id, memory_id)
SELECT coalesce(r.workspace, ($1::uuid[])[1]), coalesce(r.source, ($2::text[])[1]),
       r.external_id, r.memory_id
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
     AS r (workspace, source, external_id, memory_id)
ON CONFLICT DO NOTHING

-- name: move_aliases
-- Only while the name still belongs to the memory it was decided on.
UPDATE engram.memory_alias a
SET memory_id = w.next
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[])
    AS w (workspace, source, external_id, before, next)
WHERE a.workspace = w.workspace AND a.source = w.source AND a.external_id = w.external_id
  AND a.memory_id = w.before
RETURNING a.memory_id

-- name: insert_outbox
INSERT INTO engram.outbox (uuid, workspace, subject, payload)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[])

-- name: insert_merges
INSERT INTO engram.merge (workspace, id, kind, survivor, actor, created_at)
SELECT *, $6::timestamptz
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[])

-- name: insert_merge_members
INSERT INTO engram.merge_member (workspace, merge_id, memory_id, version, before)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::jsonb[])

-- name: repeat_memories
-- A repeat says again what is known: it reinforces, revives what was archived, and never shortens
-- a life. Rows are locked in ascending id first; one that changed meanwhile does not come back.
WITH said AS (
    SELECT w.workspace, w.id, w.version,
           bool_or(w.expires_at IS NULL) AS forever, max(w.expires_at) AS until
    FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[])
         AS w (workspace, id, version, expires_at)
    GROUP BY w.workspace, w.id, w.version
), locked AS (
    SELECT m.workspace, m.id, s.forever, s.until
    FROM engram.memory m JOIN said s USING (workspace, id, version)
    WHERE m.state IN ('active', 'archived')
    ORDER BY m.id
    FOR NO KEY UPDATE OF m
)
UPDATE engram.memory m
SET reinforced_at = $5,
    state = 'active',
    updated_at = CASE WHEN m.state = 'archived' THEN $5 ELSE m.updated_at END,
    expires_at = CASE WHEN l.forever OR m.expires_at IS NULL THEN NULL
                      ELSE greatest(m.expires_at, l.until) END
FROM locked l
WHERE m.workspace = l.workspace AND m.id = l.id
RETURNING m.workspace, m.id

-- name: hold_memories
-- Share locks keep what is about to be shown as an answer from being erased before it is saved.
SELECT m.id
FROM (SELECT DISTINCT workspace, id FROM unnest($1::uuid[], $2::uuid[]) AS w (workspace, id)) AS w
JOIN engram.memory m USING (workspace, id)
WHERE m.state <> 'deleted'
ORDER BY m.id
FOR SHARE OF m

-- name: memory_of_external_id
SELECT memory_id FROM engram.memory_alias
WHERE workspace = $1 AND source = $2 AND external_id = $3

-- name: insert_dead_letter
INSERT INTO engram.dead_letter (id, kind, workspace, subject, code, detail, payload)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: workspace_exists
SELECT EXISTS (SELECT 1 FROM engram.workspace WHERE id = $1)

-- name: lock_for_update
-- In ascending id, and only in the version that was compared.
SELECT m.workspace, m.id, m.state
FROM (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS w (workspace, id, version)
      ORDER BY id) AS w
CROSS JOIN LATERAL (
    SELECT m.workspace, m.id, m.state FROM engram.memory m
    WHERE m.workspace = w.workspace AND m.id = w.id AND m.version = w.version
      AND m.state NOT IN ('deleted', 'staged')
    FOR UPDATE OF m
) AS m

-- name: keep_revisions
INSERT INTO engram.memory_revision (workspace, memory_id, version, content, event, at, actor)
SELECT m.workspace, m.id, m.version, m.content,
       CASE WHEN m.version = 1 THEN 'created' ELSE 'updated' END, m.versioned_at, m.versioned_by
FROM unnest($1::uuid[], $2::uuid[]) AS w (workspace, id)
JOIN engram.memory m USING (workspace, id)

-- name: update_memories
-- NULL leaves a value as it is: a merge changes only what its item gives.
UPDATE engram.memory m
SET content = coalesce(u.content, m.content),
    content_sha256 = coalesce(u.content_sha256, m.content_sha256),
    fold_hash = coalesce(u.fold_hash, m.fold_hash),
    version = m.version + CASE WHEN u.content IS NULL THEN 0 ELSE 1 END,
    versioned_at = CASE WHEN u.content IS NULL THEN m.versioned_at ELSE $15 END,
    versioned_by = CASE WHEN u.content IS NULL THEN m.versioned_by ELSE u.actor END,
    reinforced_at = CASE WHEN u.content IS NULL THEN m.reinforced_at ELSE $15 END,
    metadata = coalesce(u.metadata, m.metadata),
    categories = coalesce(u.categories::text[], m.categories),
    importance = coalesce(u.importance, m.importance),
    pinned = coalesce(u.pinned, m.pinned),
    expires_at = coalesce(u.expires_at, m.expires_at),
    valid_until = coalesce(u.valid_until, m.valid_until),
    state = coalesce(u.state, m.state),
    merged_into = CASE WHEN coalesce(u.state, m.state) = 'merged' THEN m.merged_into END,
    updated_at = u.updated_at
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::bytea[], $6::jsonb[], $7::text[],
            $8::float8[], $9::bool[], $10::timestamptz[], $11::timestamptz[], $12::text[],
            $13::timestamptz[], $14::text[])
    AS u (workspace, id, content, content_sha256, fold_hash, metadata, categories, importance,
          pinned, expires_at, valid_until, state, updated_at, actor)
WHERE m.workspace = u.workspace AND m.id = u.id

-- name: leave_survivors
-- What says something of its own again is no longer absorbed.
UPDATE engram.merge_member b
SET undone_at = $3
FROM unnest($1::uuid[], $2::uuid[]) AS w (workspace, id)
WHERE b.workspace = w.workspace AND b.memory_id = w.id AND b.undone_at IS NULL

-- name: insert_import_items
INSERT INTO engram.import_item (workspace, job_id, memory_id, role, becomes, name_sha256)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bytea[])
ON CONFLICT (workspace, job_id, memory_id) DO NOTHING

-- name: spaces_to_clear
SELECT id FROM engram.space

-- name: clear_vectors
-- Of memories that are no longer live: every search would wade through them.
DELETE FROM {vectors} v
USING unnest($1::uuid[], $2::uuid[]) AS w (workspace, id)
WHERE v.workspace = w.workspace AND v.memory_id = w.id
