-- The migrator: who holds a migration, what is wished of it, how far each namespace is, and whose
-- memories belong in a space. The spaces of a migration may go before its record does.
ALTER TABLE engram.space ADD COLUMN workspaces uuid[];

ALTER TABLE engram.migration
    ALTER COLUMN source_space DROP NOT NULL,
    ALTER COLUMN target_space DROP NOT NULL,
    DROP CONSTRAINT migration_source_space_fkey,
    DROP CONSTRAINT migration_target_space_fkey,
    ADD FOREIGN KEY (source_space) REFERENCES engram.space (id) ON DELETE SET NULL,
    ADD FOREIGN KEY (target_space) REFERENCES engram.space (id) ON DELETE SET NULL,
    ADD COLUMN source_key text NOT NULL DEFAULT '',
    ADD COLUMN target_key text NOT NULL DEFAULT '',
    ADD COLUMN target_made boolean NOT NULL DEFAULT false,
    ADD COLUMN workspaces uuid[],
    ADD COLUMN home uuid,
    ADD COLUMN actor text NOT NULL DEFAULT '',
    ADD COLUMN options jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN wish jsonb,
    ADD COLUMN progress jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN verdict jsonb,
    ADD COLUMN error jsonb,
    ADD COLUMN phases jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN lease uuid,
    ADD COLUMN leased_until timestamptz NOT NULL DEFAULT '-infinity';
-- One migration is under way at a time: this index is what holds it.
CREATE UNIQUE INDEX migration_under_way ON engram.migration ((true))
    WHERE phase IN ('dual_write', 'backfill', 'verified', 'cut_over');

-- One namespace of one migration. `hint`: below this id nothing was missing when it was last walked.
CREATE TABLE engram.migration_namespace (
    workspace uuid NOT NULL,
    migration uuid NOT NULL,
    namespace text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN (
        'waiting', 'backfilling', 'complete', 'verified', 'failed', 'cut_over')),
    rows bigint NOT NULL DEFAULT 0,
    reads bigint NOT NULL DEFAULT 0,
    missing bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0,
    hint uuid,
    verdict jsonb,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (migration, workspace, namespace)
);
ALTER TABLE engram.migration_namespace ENABLE ROW LEVEL SECURITY;
ALTER TABLE engram.migration_namespace FORCE ROW LEVEL SECURITY;
CREATE POLICY of_workspace ON engram.migration_namespace TO engram_api USING ((workspace = ANY
    ((SELECT current_setting('engram.workspaces')::uuid[])::uuid[])) IS TRUE);
CREATE POLICY worker ON engram.migration_namespace TO engram_worker USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON engram.migration_namespace TO engram_api, engram_worker;
