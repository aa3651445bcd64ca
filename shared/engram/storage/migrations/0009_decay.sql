-- Decay: settings, runs with what they archived, and a clock that cannot jump; schedules that can be
-- switched off.
-- How namespaces fade: the rule of the empty prefix is the workspace's own.
CREATE TABLE engram.decay_setting (
    workspace uuid NOT NULL,
    namespace text NOT NULL,
    is_prefix boolean NOT NULL,
    half_life_days double precision CHECK (half_life_days > 0),
    floor double precision CHECK (floor BETWEEN 0 AND 1),
    grace_days double precision CHECK (grace_days >= 0),
    enabled boolean,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    PRIMARY KEY (workspace, namespace, is_prefix)
);

CREATE TABLE engram.decay_run (
    workspace uuid NOT NULL,
    id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    actor text NOT NULL,
    namespace text,
    archived bigint NOT NULL DEFAULT 0,
    restored bigint NOT NULL DEFAULT 0,
    slowed integer NOT NULL DEFAULT 0,
    slowed_namespaces text[] NOT NULL DEFAULT '{}',
    error text,
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (workspace, id)
);
-- Two runs at once are one: this index is what holds it.
CREATE UNIQUE INDEX decay_run_running ON engram.decay_run (workspace) WHERE state = 'running';
CREATE INDEX decay_run_open ON engram.decay_run (id) WHERE state IN ('queued', 'running');

-- What a run has archived, so that it can be restored.
CREATE TABLE engram.decay_archive (
    workspace uuid NOT NULL,
    run_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    namespace text NOT NULL,
    importance_left double precision NOT NULL,
    archived_at timestamptz NOT NULL,
    restored_at timestamptz,
    PRIMARY KEY (workspace, run_id, memory_id)
);
CREATE INDEX decay_archive_memory ON engram.decay_archive (workspace, memory_id)
    WHERE restored_at IS NULL;

-- One row: when the wall clock was last looked at, and what of its course does not count.
CREATE TABLE engram.decay_clock (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    seen_at timestamptz NOT NULL,
    withheld_s double precision NOT NULL DEFAULT 0 CHECK (withheld_s >= 0)
);

ALTER TABLE engram.sweep
    ADD COLUMN enabled boolean NOT NULL DEFAULT true,
    ADD COLUMN last_duration_s double precision;

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['decay_setting', 'decay_run', 'decay_archive']
    LOOP
        EXECUTE format('ALTER TABLE engram.%I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE engram.%I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format(
            'CREATE POLICY of_workspace ON engram.%I TO engram_api USING ((workspace = ANY '
            '((SELECT current_setting(''engram.workspaces'')::uuid[])::uuid[])) IS TRUE)', tenant);
        EXECUTE format(
            'CREATE POLICY worker ON engram.%I TO engram_worker USING (true)', tenant);
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON engram.%I TO engram_api, engram_worker',
            tenant);
    END LOOP;
END
$$;
GRANT SELECT ON engram.decay_clock TO engram_api;
GRANT SELECT, INSERT, UPDATE ON engram.decay_clock TO engram_worker;
