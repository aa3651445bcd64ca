-- name: ensure
INSERT INTO engram.provider_budget (provider, model, key_sha256) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING

-- name: take
-- The arithmetic of engram.domain.budget.take, by this server's clock. FOR UPDATE reads the row as
-- the one before left it, so whoever waited for the lock sees what is really left; now() is then
-- older than the row and adds nothing, which is the safe side. The elapsed time is written out each
-- time: a sub-select would keep the value of the row before the wait. What was granted nothing
-- writes nothing but that it is owed: the next refill counts from the same moment.
WITH filled AS MATERIALIZED (
    SELECT closed_until, document_at, owed_at, owed_tokens,
           least($6::float8, tokens + share * $4::float8
                 * greatest(0, extract(epoch FROM now() - refilled_at)::float8)) AS tokens,
           least($7::float8, requests + share * $5::float8
                 * greatest(0, extract(epoch FROM now() - refilled_at)::float8)) AS requests,
           least(1, share + $11::float8
                 * greatest(0, extract(epoch FROM now() - refilled_at)::float8)) AS share
    FROM engram.provider_budget
    WHERE provider = $1 AND model = $2 AND key_sha256 = $3
    FOR UPDATE
), turned AS MATERIALIZED (
    SELECT f.*,
           NOT $12::boolean AND now() - document_at >= make_interval(
               secs => greatest($8::float8 / $4::float8, 1 / $5::float8) / ($13::float8 * share)
           ) AS owed,
           $12::boolean AND now() - owed_at < make_interval(secs => $14::float8) AS yields
    FROM filled f
), waiting AS MATERIALIZED (
    SELECT t.*, greatest(
        0,
        CASE WHEN closed_until > now() THEN extract(epoch FROM closed_until - now())::float8 END,
        ($8::float8 - tokens + CASE
            WHEN owed THEN 0
            WHEN yields THEN least(owed_tokens, $6::float8 - $8::float8)
            ELSE $9::float8 END) / ($4::float8 * share),
        (1 - requests + CASE
            WHEN owed THEN 0
            WHEN yields THEN least(1, $7::float8 - 1)
            ELSE $10::float8 END) / ($5::float8 * share)
    ) AS wait_s
    FROM turned t
), granted AS (
    UPDATE engram.provider_budget b
    SET tokens = w.tokens - $8::float8, requests = w.requests - 1, share = w.share,
        refilled_at = greatest(b.refilled_at, now()),
        document_at = CASE WHEN $12::boolean THEN b.document_at ELSE now() END,
        owed_at = CASE WHEN $12::boolean THEN b.owed_at ELSE '-infinity' END
    FROM waiting w
    WHERE w.wait_s <= 0 AND b.provider = $1 AND b.model = $2 AND b.key_sha256 = $3
), noted AS (
    UPDATE engram.provider_budget b SET owed_at = now(), owed_tokens = $8::float8
    FROM waiting w
    WHERE w.wait_s > 0 AND w.owed AND b.provider = $1 AND b.model = $2 AND b.key_sha256 = $3
)
SELECT wait_s, share FROM waiting

-- name: correct
UPDATE engram.provider_budget SET tokens = least($5::float8, tokens - $4::float8)
WHERE provider = $1 AND model = $2 AND key_sha256 = $3

-- name: cut
-- Calls in flight together are refused together: that is one refusal.
UPDATE engram.provider_budget
SET tokens = least(0, tokens + share * $4::float8
                   * greatest(0, extract(epoch FROM now() - refilled_at)::float8)),
    requests = least(0, requests + share * $5::float8
                     * greatest(0, extract(epoch FROM now() - refilled_at)::float8)),
    share = CASE
        WHEN now() - cut_at >= make_interval(secs => $6::float8) THEN greatest(
            $7::float8,
            least(1, share + $8::float8
                  * greatest(0, extract(epoch FROM now() - refilled_at)::float8)) / 2)
        ELSE least(1, share + $8::float8
                   * greatest(0, extract(epoch FROM now() - refilled_at)::float8)) END,
    cut_at = CASE WHEN now() - cut_at >= make_interval(secs => $6::float8) THEN now()
                  ELSE cut_at END,
    closed_until = greatest(closed_until, now() + make_interval(secs => $9::float8)),
    refilled_at = greatest(refilled_at, now())
WHERE provider = $1 AND model = $2 AND key_sha256 = $3
RETURNING share
