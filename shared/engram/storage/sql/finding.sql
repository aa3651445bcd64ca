-- {findings} is engram.proposal or engram.conflict, {others} the other one, {own} its own column.

-- name: hold
-- Share locks, in ascending id: what is deleted from here on takes its findings with it.
SELECT m.id, m.version
FROM (SELECT DISTINCT id FROM unnest($2::uuid[]) AS w (id) ORDER BY id) AS w
CROSS JOIN LATERAL (
    SELECT m.id, m.version FROM engram.memory m
    WHERE m.workspace = $1 AND m.id = w.id AND m.state = 'active'
    FOR SHARE OF m
) AS m

-- name: record
-- What a person has decided stays decided while both texts are what they were.
INSERT INTO {findings} AS f (
    workspace, id, low, high, low_version, high_version, cosine, reason, evidence, survivor,
    rule_version, run_id, created_at)
SELECT $1, g.*, $11::text, $12::uuid, $13::timestamptz
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::int[], $7::real[], $8::text[],
            $9::jsonb[], $10::uuid[])
    AS g (id, low, high, low_version, high_version, cosine, reason, evidence, survivor)
ON CONFLICT (workspace, low, high) DO UPDATE
SET low_version = excluded.low_version, high_version = excluded.high_version,
    cosine = excluded.cosine, reason = excluded.reason, evidence = excluded.evidence,
    survivor = excluded.survivor, rule_version = excluded.rule_version,
    run_id = excluded.run_id, created_at = excluded.created_at,
    state = 'open', decided_at = NULL, decided_by = NULL, {own} = NULL
WHERE f.low_version <> excluded.low_version OR f.high_version <> excluded.high_version
   OR (f.state = 'open' AND f.rule_version <> excluded.rule_version)
RETURNING f.id

-- name: withdraw
-- A pair is one thing or the other.
DELETE FROM {others} f
USING unnest($2::uuid[], $3::uuid[]) AS g (low, high)
WHERE f.workspace = $1 AND f.low = g.low AND f.high = g.high AND f.state = 'open'

-- name: settled
-- Rejected, resolved, or merged and undone, in these very versions.
SELECT w.low, w.high
FROM unnest($2::uuid[], $3::uuid[], $4::int[], $5::int[]) AS w (low, high, low_version, high_version)
CROSS JOIN LATERAL (
    SELECT 1 FROM engram.proposal p
    WHERE p.workspace = $1 AND p.low = w.low AND p.high = w.high AND p.state = 'rejected'
      AND p.low_version = w.low_version AND p.high_version = w.high_version
    UNION ALL
    SELECT 1 FROM engram.conflict c
    WHERE c.workspace = $1 AND c.low = w.low AND c.high = w.high AND c.state = 'resolved'
      AND c.low_version = w.low_version AND c.high_version = w.high_version
    UNION ALL
    SELECT 1
    FROM engram.merge_member a
    JOIN engram.merge_member b
        ON b.workspace = $1 AND b.merge_id = a.merge_id AND b.memory_id = w.high
       AND b.version = w.high_version
    WHERE a.workspace = $1 AND a.memory_id = w.low AND a.version = w.low_version
      AND (a.undone_by IS NOT NULL OR b.undone_by IS NOT NULL)
    UNION ALL
    SELECT 1
    FROM (VALUES (w.low, w.low_version, w.high, w.high_version),
                 (w.high, w.high_version, w.low, w.low_version))
        AS o (member, member_version, survivor, survivor_version)
    JOIN engram.merge_member b
        ON b.workspace = $1 AND b.memory_id = o.member AND b.version = o.member_version
       AND b.undone_by IS NOT NULL
    JOIN engram.merge g
        ON g.workspace = $1 AND g.id = b.merge_id AND g.survivor = o.survivor
       AND coalesce(g.survivor_version, o.survivor_version) = o.survivor_version
    LIMIT 1
) AS s

-- name: columns
f.id, f.state, f.low, f.high, f.low_version, f.high_version, f.cosine, f.reason, f.evidence,
f.survivor, f.rule_version, f.run_id, f.created_at, f.decided_at, f.decided_by, f.{own},
a.namespace,
a.content AS low_content, a.version AS low_now, a.state AS low_state, a.pinned AS low_pinned,
a.importance AS low_importance,
CASE WHEN a.version = 1 THEN a.created_at ELSE a.versioned_at END AS low_said_at,
b.content AS high_content, b.version AS high_now, b.state AS high_state, b.pinned AS high_pinned,
b.importance AS high_importance,
CASE WHEN b.version = 1 THEN b.created_at ELSE b.versioned_at END AS high_said_at

-- name: page
-- Open ones only while both are live and say what they said: of others nothing can be decided.
SELECT {columns}
FROM {findings} f
CROSS JOIN LATERAL (
    SELECT * FROM engram.memory m WHERE m.workspace = $1 AND m.id = f.low OFFSET 0
) AS a
CROSS JOIN LATERAL (
    SELECT * FROM engram.memory m WHERE m.workspace = $1 AND m.id = f.high OFFSET 0
) AS b
WHERE f.workspace = $1 AND f.id > $2 AND f.state = $3
  AND ($4::text IS NULL OR a.namespace = $4)
  AND ($3 <> 'open' OR (a.state = 'active' AND b.state = 'active'
                        AND a.version = f.low_version AND b.version = f.high_version))
ORDER BY f.id
LIMIT $5

-- name: show
SELECT {columns}
FROM {findings} f
JOIN engram.memory a ON a.workspace = $1 AND a.id = f.low
JOIN engram.memory b ON b.workspace = $1 AND b.id = f.high
WHERE f.workspace = $1 AND f.id = $2

-- name: accept
UPDATE engram.proposal
SET state = 'accepted', decided_at = $3, decided_by = $4, merge_id = $5, survivor = $6
WHERE workspace = $1 AND id = $2

-- name: reject
UPDATE engram.proposal
SET state = 'rejected', decided_at = $3, decided_by = $4
WHERE workspace = $1 AND id = $2 AND state <> 'rejected'
RETURNING id

-- name: supersede
UPDATE engram.memory
SET state = 'superseded', valid_until = coalesce(valid_until, $3), updated_at = $3
WHERE workspace = $1 AND id = $2

-- name: resolve
UPDATE engram.conflict
SET state = 'resolved', decided_at = $3, decided_by = $4, survivor = $5, before = $6
WHERE workspace = $1 AND id = $2 AND state = 'open'
RETURNING id

-- name: reopen
UPDATE engram.conflict
SET state = 'open', decided_at = NULL, decided_by = NULL, survivor = NULL, before = NULL
WHERE workspace = $1 AND id = $2 AND state = 'resolved'
RETURNING id

-- name: live_again
UPDATE engram.memory
SET state = 'active',
    valid_until = CASE WHEN valid_until = $3 THEN $4 ELSE valid_until END,
    updated_at = CASE WHEN updated_at = $3 THEN $5 ELSE updated_at END
WHERE workspace = $1 AND id = $2
