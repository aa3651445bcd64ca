-- name: survivors
-- Those of some merges, and those that absorbed them in turn.
WITH RECURSIVE up AS (
    SELECT g.survivor FROM engram.merge g WHERE g.workspace = $1 AND g.id = ANY ($2::uuid[])
    UNION
    SELECT g.survivor
    FROM up u
    JOIN engram.merge_member b
        ON b.workspace = $1 AND b.memory_id = u.survivor AND b.undone_at IS NULL
    JOIN engram.merge g ON g.workspace = $1 AND g.id = b.merge_id
)
SELECT survivor FROM up

-- name: members
SELECT b.merge_id, b.memory_id, b.before, b.undone_at, g.survivor, g.created_at
FROM engram.merge_member b
JOIN engram.merge g ON g.workspace = $1 AND g.id = b.merge_id
WHERE b.workspace = $1 AND b.merge_id = ANY ($2::uuid[])
  AND ($3::uuid IS NULL OR b.memory_id = $3)
ORDER BY b.memory_id, b.merge_id

-- name: restore
-- Only what still stands as the merge left it; a time that was set since stays.
UPDATE engram.memory m
SET state = r.state, merged_into = NULL,
    updated_at = CASE WHEN m.updated_at = r.merged_at THEN coalesce(r.updated_at, m.updated_at)
                      ELSE m.updated_at END
FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[])
    AS r (id, state, merged_at, updated_at)
WHERE m.workspace = $1 AND m.id = r.id
RETURNING m.id, m.importance, m.access_count, m.created_at, m.reinforced_at, m.last_accessed_at,
          m.expires_at, m.updated_at

-- name: mark_members
UPDATE engram.merge_member b
SET undone_at = $4, undone_by = $5
FROM unnest($2::uuid[], $3::uuid[]) AS u (merge_id, memory_id)
WHERE b.workspace = $1 AND b.merge_id = u.merge_id AND b.memory_id = u.memory_id

-- name: mark_merges
-- A merge is undone when nothing is absorbed through it any more.
UPDATE engram.merge g
SET undone_at = $3
WHERE g.workspace = $1 AND g.id = ANY ($2::uuid[]) AND g.undone_at IS NULL
  AND NOT EXISTS (
      SELECT 1 FROM engram.merge_member b
      WHERE b.workspace = $1 AND b.merge_id = g.id AND b.undone_at IS NULL)
RETURNING g.id

-- name: entries
-- What carried nothing over (exact repeats, merges that were imported) is no entry.
SELECT g.id, g.survivor, g.created_at, g.survivor_before, g.survivor_after
FROM engram.merge g
WHERE g.workspace = $1 AND g.survivor = ANY ($2::uuid[]) AND g.survivor_before IS NOT NULL
ORDER BY g.seq

-- name: parts
SELECT b.merge_id, b.memory_id, b.carried
FROM engram.merge_member b
WHERE b.workspace = $1 AND b.merge_id = ANY ($2::uuid[]) AND b.undone_at IS NULL
  AND b.carried IS NOT NULL

-- name: rewrite_entries
UPDATE engram.merge g
SET survivor_before = e.before, survivor_after = e.after
FROM unnest($2::uuid[], $3::jsonb[], $4::jsonb[]) AS e (id, before, after)
WHERE g.workspace = $1 AND g.id = e.id

-- name: rewrite_parts
UPDATE engram.merge_member b
SET carried = p.carried,
    before = CASE WHEN b.before ? 'updated_at'
                  THEN jsonb_set(b.before, '{updated_at}', p.carried -> 'updated_at')
                  ELSE b.before END
FROM unnest($2::uuid[], $3::uuid[], $4::jsonb[]) AS p (merge_id, memory_id, carried)
WHERE b.workspace = $1 AND b.merge_id = p.merge_id AND b.memory_id = p.memory_id

-- name: of_run
SELECT g.id FROM engram.merge g
WHERE g.workspace = $1 AND g.run_id = $2 AND g.undone_at IS NULL
ORDER BY g.id DESC
LIMIT $3

-- name: count_restored
UPDATE engram.dedup_run r
SET restored = r.restored + $3
WHERE r.workspace = $1 AND r.id = $2
