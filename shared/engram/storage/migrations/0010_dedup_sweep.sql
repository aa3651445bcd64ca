-- The dedup sweep: which namespaces a run has still to do, what a dry run would merge, up to where a
-- namespace has been compared and by which rules, and the thresholds of a space.
ALTER TABLE engram.namespace ADD COLUMN dedup_mark text;
ALTER TABLE engram.space
    ADD COLUMN merge_from double precision,
    ADD COLUMN propose_from double precision,
    ADD CHECK (propose_from > 0 AND propose_from <= merge_from AND merge_from <= 1);
ALTER TABLE engram.dedup_run ADD COLUMN planned_at timestamptz;

-- One namespace of one run. Memories that are to merge are kept once they are known, so that whoever
-- goes on after a crash does what was decided, and not something else.
CREATE TABLE engram.dedup_task (
    workspace uuid NOT NULL,
    run_id uuid NOT NULL,
    namespace text NOT NULL,
    space smallint NOT NULL,
    compared_seq bigint NOT NULL,
    newest_seq bigint NOT NULL,
    horizon xid8 NOT NULL,
    row_count bigint NOT NULL,
    done boolean NOT NULL DEFAULT false,
    merges jsonb,
    lease_holder uuid,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (workspace, run_id, namespace)
);

CREATE TABLE engram.dedup_preview (
    workspace uuid NOT NULL,
    run_id uuid NOT NULL,
    survivor uuid NOT NULL,
    namespace text NOT NULL,
    members uuid[] NOT NULL,
    PRIMARY KEY (workspace, run_id, survivor)
);

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['dedup_task', 'dedup_preview']
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
