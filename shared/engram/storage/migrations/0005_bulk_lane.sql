-- What a workspace rang above its live share waits here, and is worked off in turn with others'.
CREATE TABLE engram.bulk_batch (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space smallint NOT NULL,
    workspace uuid NOT NULL,
    ids uuid[] NOT NULL,
    rung_at timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX bulk_batch_turn ON engram.bulk_batch (space, workspace, id);
ALTER TABLE engram.bulk_batch ENABLE ROW LEVEL SECURITY;
ALTER TABLE engram.bulk_batch FORCE ROW LEVEL SECURITY;
CREATE POLICY of_workspace ON engram.bulk_batch TO engram_api USING ((workspace = ANY
    ((SELECT current_setting('engram.workspaces')::uuid[])::uuid[])) IS TRUE);
CREATE POLICY worker ON engram.bulk_batch TO engram_worker USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON engram.bulk_batch TO engram_api, engram_worker;

-- Retries too are claimed in turn over workspaces.
DROP INDEX engram.embedding_failure_due;
CREATE INDEX embedding_failure_due ON engram.embedding_failure (space, workspace, next_attempt)
    WHERE NOT dead;

-- Documents have a floor in the budget: the call that waits for it is noted here.
ALTER TABLE engram.provider_budget
    ADD COLUMN document_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN owed_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN owed_tokens double precision NOT NULL DEFAULT 0;
