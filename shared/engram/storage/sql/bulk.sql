-- name: add
INSERT INTO engram.bulk_batch (space, workspace, ids)
SELECT $1, b.workspace, b.ids::uuid[]
FROM unnest($2::uuid[], $3::text[]) AS b (workspace, ids)

-- name: claim
-- The next batches in the order of workspaces, after the one served last, up to $3 memories. A claim
-- is a lease: no lock is held while a provider is asked. Neither a claim nor its end waits for the
-- disk: what a crash takes back is claimed, or ended, once more.
WITH free AS MATERIALIZED (
    SELECT b.id, b.workspace, cardinality(b.ids) AS size
    FROM engram.bulk_batch b
    CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) AS hurry
    WHERE b.space = $1 AND b.workspace > $2 AND b.claimed_until <= now()
    ORDER BY b.workspace, b.id
    LIMIT 64
    FOR UPDATE OF b SKIP LOCKED
), fitting AS (
    SELECT id FROM (
        SELECT id, sum(size) OVER (ORDER BY workspace, id) - size AS before FROM free
    ) AS f
    WHERE before = 0 OR before < $3
)
UPDATE engram.bulk_batch b SET claimed_until = now() + $4::interval
FROM fitting f
WHERE b.id = f.id
RETURNING b.id, b.workspace, b.ids, b.rung_at

-- name: extend
UPDATE engram.bulk_batch SET claimed_until = now() + $2::interval
WHERE id = ANY ($1::bigint[])

-- name: finish
DELETE FROM engram.bulk_batch b
USING (SELECT set_config('synchronous_commit', 'off', true)) AS hurry
WHERE b.id = ANY ($1::bigint[])

-- name: waiting
SELECT coalesce(sum(cardinality(ids)), 0)::bigint AS memories,
       coalesce(extract(epoch FROM now() - min(rung_at)), 0)::float8 AS oldest_s
FROM engram.bulk_batch
WHERE space = $1
