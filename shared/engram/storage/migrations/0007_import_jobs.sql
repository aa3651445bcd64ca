-- Imports as jobs: the body is kept in chunks until it is done, progress is committed with the rows.
-- The two tables of 0001 were never written to.
DROP TABLE engram.import_error, engram.import_job;

CREATE TABLE engram.import_job (
    workspace uuid NOT NULL,
    id uuid NOT NULL,
    state text NOT NULL CHECK (state IN (
        'receiving', 'queued', 'running', 'done', 'failed', 'cancelled')),
    actor text NOT NULL,
    options jsonb NOT NULL,
    format text,
    body_bytes bigint NOT NULL DEFAULT 0,
    read_bytes bigint NOT NULL DEFAULT 0,
    position bigint NOT NULL DEFAULT 0,
    report jsonb NOT NULL,
    archived bigint NOT NULL DEFAULT 0,
    low_id uuid,
    high_id uuid,
    error jsonb,
    lease_holder uuid,
    lease_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    tried_from bigint NOT NULL DEFAULT -1,
    cleaned boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    restored_at timestamptz,
    PRIMARY KEY (workspace, id)
);
-- One job of a workspace runs at a time: this index is what holds it.
CREATE UNIQUE INDEX import_job_running ON engram.import_job (workspace) WHERE state = 'running';
CREATE INDEX import_job_open ON engram.import_job (created_at) WHERE NOT cleaned;

-- The body as it was sent, until the job has ended. Not compressed: it is read once or twice.
CREATE TABLE engram.import_chunk (
    workspace uuid NOT NULL,
    job_id uuid NOT NULL,
    part integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (workspace, job_id, part)
);
ALTER TABLE engram.import_chunk ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE engram.import_error (
    workspace uuid NOT NULL,
    job_id uuid NOT NULL,
    index bigint NOT NULL,
    line bigint,
    external_id text,
    code text NOT NULL,
    pointer text NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (workspace, job_id, index)
);

-- What a job has done to single memories, where the memory's own row cannot tell it.
CREATE TABLE engram.import_item (
    workspace uuid NOT NULL,
    job_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    role text NOT NULL CHECK (role IN ('updated', 'staged', 'kept', 'archived')),
    becomes text,
    name_sha256 bytea,
    named_before uuid,
    PRIMARY KEY (workspace, job_id, memory_id)
);
CREATE INDEX import_item_name ON engram.import_item (workspace, job_id, name_sha256)
    WHERE name_sha256 IS NOT NULL;

-- What a dry run would have stored so far, as digests.
CREATE TABLE engram.import_mark (
    workspace uuid NOT NULL,
    job_id uuid NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (workspace, job_id, key)
);

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY[
        'import_job', 'import_chunk', 'import_error', 'import_item', 'import_mark']
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
