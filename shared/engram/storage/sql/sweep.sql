-- name: ensure
-- The table is the only scheduler: a person's own interval is never overwritten by a restart.
INSERT INTO engram.sweep (name, every)
SELECT * FROM unnest($1::text[], $2::interval[])
ON CONFLICT (name) DO NOTHING

-- name: claim
UPDATE engram.sweep s
SET lease_holder = $1, lease_until = now() + $2::interval, last_started = now()
FROM (SELECT name FROM engram.sweep
      WHERE next_due <= now() AND (lease_until IS NULL OR lease_until < now())
        AND name = ANY ($3::text[])
      ORDER BY next_due
      LIMIT 1
      FOR UPDATE SKIP LOCKED) AS d
WHERE s.name = d.name
RETURNING s.name

-- name: extend
UPDATE engram.sweep SET lease_until = now() + $3::interval
WHERE name = $1 AND lease_holder = $2
RETURNING name

-- name: finish
-- Counted from now: a sweep that was late does not run twice to catch up. A time that was set
-- while it ran stays: what asked for it may have come too late for this run.
UPDATE engram.sweep
SET lease_holder = NULL, lease_until = NULL, last_finished = now(), last_error = $3,
    next_due = CASE WHEN next_due > last_started THEN next_due ELSE now() + every END
WHERE name = $1 AND lease_holder = $2

-- name: due_now
UPDATE engram.sweep SET next_due = now() WHERE name = $1

-- name: last_started
SELECT last_started FROM engram.sweep WHERE name = $1

-- name: list
SELECT name, extract(epoch FROM every)::float8 AS every_s, next_due, last_started, last_finished,
       last_error
FROM engram.sweep ORDER BY name

-- name: expire_keys
DELETE FROM engram.idempotency
WHERE ctid IN (SELECT ctid FROM engram.idempotency
               WHERE created_at < now() - $1::interval LIMIT $2)
