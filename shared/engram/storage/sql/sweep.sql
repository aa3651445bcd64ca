-- name: ensure
-- The table is the only scheduler: a person's own interval is never overwritten by a restart.
INSERT INTO engram.sweep (name, every)
SELECT * FROM unnest($1::text[], $2::interval[])
ON CONFLICT (name) DO NOTHING

-- name: claim
UPDATE engram.sweep s
SET lease_holder = $1, lease_until = now() + $2::interval, last_started = now()
FROM (SELECT name FROM engram.sweep
      WHERE enabled AND next_due <= now() AND (lease_until IS NULL OR lease_until < now())
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
    last_duration_s = extract(epoch FROM now() - last_started),
    next_due = CASE WHEN next_due > last_started THEN next_due ELSE now() + every END
WHERE name = $1 AND lease_holder = $2

-- name: due_now
UPDATE engram.sweep SET next_due = now() WHERE name = $1

-- name: last_started
SELECT last_started FROM engram.sweep WHERE name = $1

-- name: list
SELECT name, extract(epoch FROM every)::float8 AS every_s, next_due, last_started, last_finished,
       last_error, enabled, last_duration_s, coalesce(lease_until > now(), false) AS running
FROM engram.sweep ORDER BY name

-- name: set
-- A new interval counts from the last start, as if it had always been this one; NULL leaves a
-- value as it is.
UPDATE engram.sweep
SET every = coalesce($2::interval, every), enabled = coalesce($3::boolean, enabled),
    next_due = CASE WHEN $2::interval IS NULL THEN next_due
                    ELSE greatest(now(), coalesce(last_started, now()) + $2::interval) END
WHERE name = $1
RETURNING name

-- name: expire_keys
DELETE FROM engram.idempotency
WHERE ctid IN (SELECT ctid FROM engram.idempotency
               WHERE created_at < now() - $1::interval LIMIT $2)
