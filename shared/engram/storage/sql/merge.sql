-- name: lock
-- In ascending id, whatever the order they are named in. LATERAL … OFFSET 0 as in write.sql.
SELECT m.id, m.version, m.state, m.namespace, m.user_id, m.agent_id, m.session_id, m.app_id,
       m.pinned, m.metadata, m.merged_into, m.importance, m.access_count, m.created_at,
       m.reinforced_at, m.last_accessed_at, m.expires_at, m.updated_at, m.valid_until
FROM (SELECT DISTINCT id FROM unnest($2::uuid[]) AS w (id) ORDER BY id) AS w
CROSS JOIN LATERAL (
    SELECT * FROM engram.memory m WHERE m.workspace = $1 AND m.id = w.id FOR UPDATE OF m
) AS m

-- name: absorb
UPDATE engram.memory m
SET state = 'merged', merged_into = a.survivor, updated_at = $4
FROM unnest($2::uuid[], $3::uuid[]) AS a (id, survivor)
WHERE m.workspace = $1 AND m.id = a.id

-- name: carry
UPDATE engram.memory m
SET importance = c.importance, access_count = c.access_count, created_at = c.created_at,
    reinforced_at = c.reinforced_at, last_accessed_at = c.last_accessed_at,
    expires_at = c.expires_at, updated_at = c.updated_at
FROM unnest($2::uuid[], $3::float8[], $4::int[], $5::timestamptz[], $6::timestamptz[],
            $7::timestamptz[], $8::timestamptz[], $9::timestamptz[])
    AS c (id, importance, access_count, created_at, reinforced_at, last_accessed_at, expires_at,
          updated_at)
WHERE m.workspace = $1 AND m.id = c.id

-- name: insert_merges
INSERT INTO engram.merge (
    workspace, id, run_id, kind, survivor, actor, created_at, reason, rule_version,
    survivor_version, survivor_before, survivor_after, member_count)
SELECT $1, g.id, $3::uuid, 'near', g.survivor, $4::text, $5::timestamptz, $6::text, $7::text, g.version, g.before, g.after, g.members
FROM unnest($2::uuid[], $8::uuid[], $9::int[], $10::jsonb[], $11::jsonb[], $12::int[])
    AS g (id, survivor, version, before, after, members)

-- name: insert_members
INSERT INTO engram.merge_member (
    workspace, merge_id, memory_id, version, before, cosine, evidence, carried)
SELECT $1, b.*
FROM unnest($2::uuid[], $3::uuid[], $4::int[], $5::jsonb[], $6::real[], $7::jsonb[], $8::jsonb[])
    AS b (merge_id, memory_id, version, before, cosine, evidence, carried)

-- name: lock_run
SELECT state, merge_cap, merged FROM engram.dedup_run
WHERE workspace = $1 AND id = $2
FOR UPDATE

-- name: count_merged
UPDATE engram.dedup_run
SET merged = merged + $3, state = CASE WHEN $4 THEN 'capped' ELSE state END,
    finished_at = CASE WHEN $4 THEN $5 ELSE finished_at END
WHERE workspace = $1 AND id = $2

-- name: page
-- Newest first: ids are uuid v7.
SELECT g.id, g.kind, g.survivor, g.run_id, g.reason, g.rule_version, g.actor, g.member_count,
       g.created_at, g.undone_at
FROM engram.merge g
WHERE g.workspace = $1 AND g.id < $2
  AND ($3::uuid IS NULL OR g.run_id = $3)
ORDER BY g.id DESC
LIMIT $4

-- name: page_of_memory
-- Those that a memory has survived, and those through which it was absorbed.
SELECT g.id, g.kind, g.survivor, g.run_id, g.reason, g.rule_version, g.actor, g.member_count,
       g.created_at, g.undone_at
FROM (
    SELECT s.id FROM engram.merge s WHERE s.workspace = $1 AND s.survivor = $5
    UNION
    SELECT b.merge_id FROM engram.merge_member b WHERE b.workspace = $1 AND b.memory_id = $5
) AS w
JOIN engram.merge g ON g.workspace = $1 AND g.id = w.id
WHERE g.id < $2 AND ($3::uuid IS NULL OR g.run_id = $3)
ORDER BY g.id DESC
LIMIT $4

-- name: show
SELECT g.id, g.kind, g.survivor, g.run_id, g.reason, g.rule_version, g.actor, g.member_count,
       g.created_at, g.undone_at, m.content
FROM engram.merge g
LEFT JOIN engram.memory m
    ON m.workspace = g.workspace AND m.id = g.survivor AND m.state NOT IN ('deleted', 'staged')
WHERE g.workspace = $1 AND g.id = $2

-- name: members
SELECT b.memory_id, b.version, b.cosine, b.evidence, b.undone_at, b.undone_by, m.state, m.content
FROM (
    SELECT * FROM engram.merge_member b
    WHERE b.workspace = $1 AND b.merge_id = $2 AND b.memory_id > $3
    ORDER BY b.memory_id
    LIMIT $4
) AS b
LEFT JOIN LATERAL (
    SELECT m.state, m.content FROM engram.memory m
    WHERE m.workspace = $1 AND m.id = b.memory_id AND m.state NOT IN ('deleted', 'staged')
    OFFSET 0
) AS m ON true
ORDER BY b.memory_id
