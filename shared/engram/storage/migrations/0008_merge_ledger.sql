-- The ledger of merges: runs, what each merge carried over and can give back, and the versions that
-- proposals and conflicts are about. Both of the latter were never written to before.
CREATE TABLE engram.dedup_run (
    workspace uuid NOT NULL,
    id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'done', 'cancelled', 'capped', 'failed')),
    actor text NOT NULL,
    options jsonb NOT NULL,
    counts jsonb NOT NULL,
    rule_version text NOT NULL,
    merge_cap integer,
    merged integer NOT NULL DEFAULT 0,
    restored integer NOT NULL DEFAULT 0,
    error jsonb,
    lease_until timestamptz NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    undone_at timestamptz,
    PRIMARY KEY (workspace, id)
);
-- Two runs at once are one: this index is what holds it.
CREATE UNIQUE INDEX dedup_run_running ON engram.dedup_run (workspace) WHERE state = 'running';

ALTER TABLE engram.merge
    ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN reason text NOT NULL DEFAULT '',
    ADD COLUMN rule_version text NOT NULL DEFAULT '',
    ADD COLUMN survivor_version integer,
    ADD COLUMN survivor_before jsonb,
    ADD COLUMN survivor_after jsonb,
    ADD COLUMN member_count integer NOT NULL DEFAULT 1;
CREATE INDEX merge_run ON engram.merge (workspace, run_id) WHERE run_id IS NOT NULL;

ALTER TABLE engram.merge_member
    ADD COLUMN cosine real,
    ADD COLUMN evidence jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN carried jsonb,
    ADD COLUMN undone_by text;

ALTER TABLE engram.proposal
    ADD COLUMN low_version integer NOT NULL,
    ADD COLUMN high_version integer NOT NULL,
    ADD COLUMN survivor uuid,
    ADD COLUMN evidence jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN rule_version text NOT NULL DEFAULT '',
    ADD COLUMN run_id uuid,
    ADD COLUMN decided_at timestamptz,
    ADD COLUMN decided_by text,
    ADD COLUMN merge_id uuid;
CREATE INDEX proposal_high ON engram.proposal (workspace, high);

ALTER TABLE engram.conflict
    ADD COLUMN low_version integer NOT NULL,
    ADD COLUMN high_version integer NOT NULL,
    ADD COLUMN survivor uuid,
    ADD COLUMN evidence jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN rule_version text NOT NULL DEFAULT '',
    ADD COLUMN run_id uuid,
    ADD COLUMN decided_at timestamptz,
    ADD COLUMN decided_by text,
    ADD COLUMN before jsonb;
CREATE INDEX conflict_high ON engram.conflict (workspace, high);

ALTER TABLE engram.dedup_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE engram.dedup_run FORCE ROW LEVEL SECURITY;
CREATE POLICY of_workspace ON engram.dedup_run TO engram_api USING (
    (workspace = ANY ((SELECT current_setting('engram.workspaces')::uuid[])::uuid[])) IS TRUE);
CREATE POLICY worker ON engram.dedup_run TO engram_worker USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON engram.dedup_run TO engram_api, engram_worker;
