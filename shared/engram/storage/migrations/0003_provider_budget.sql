-- What all replicas together may still spend at a provider. Unlogged: after a crash it is empty,
-- an empty budget is a new one, and a new one grants nothing until it has filled.
CREATE UNLOGGED TABLE engram.provider_budget (
    provider text NOT NULL,
    model text NOT NULL,
    key_sha256 text NOT NULL CHECK (length(key_sha256) = 16),
    tokens double precision NOT NULL DEFAULT 0,
    requests double precision NOT NULL DEFAULT 0,
    share double precision NOT NULL DEFAULT 1,
    refilled_at timestamptz NOT NULL DEFAULT now(),
    cut_at timestamptz NOT NULL DEFAULT '-infinity',
    closed_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (provider, model, key_sha256)
);
GRANT SELECT, INSERT, UPDATE ON engram.provider_budget TO engram_worker;
