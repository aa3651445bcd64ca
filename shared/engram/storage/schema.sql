-- The whole schema as it stands after every migration; tests/integration proves the two agree.
-- Roles exist before this runs (storage/roles.py). Every key leads with the workspace, so that
-- partitioning by it stays possible. Hot tables carry no foreign keys: the write protocol locks
-- what it touches, and a key check per row would cost a third of ingest.

CREATE SCHEMA engram;
CREATE SCHEMA engram_vec AUTHORIZATION engram_vec;
GRANT USAGE ON SCHEMA engram TO engram_api, engram_worker, engram_vec;
SET LOCAL ROLE engram_vec;
GRANT USAGE ON SCHEMA engram_vec TO engram_api, engram_worker;
SET LOCAL ROLE NONE;

CREATE TABLE engram.schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Spaces and who reads which ------------------------------------------------------------------

CREATE TABLE engram.space (
    id smallint PRIMARY KEY CHECK (id BETWEEN 1 AND 8),
    key text NOT NULL UNIQUE,
    provider text NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 3072),
    dtype text NOT NULL,
    input_type text NOT NULL,
    normalised boolean NOT NULL,
    template text NOT NULL,
    deterministic boolean NOT NULL,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retired')),
    created_at timestamptz NOT NULL DEFAULT now(),
    merge_from double precision,
    propose_from double precision,
    workspaces uuid[],
    embeds_with smallint NOT NULL DEFAULT 0,
    fenced_until timestamptz NOT NULL DEFAULT '-infinity',
    CHECK (propose_from > 0 AND propose_from <= merge_from AND merge_from <= 1)
);

-- Models of one family make vectors of one space. Number 0 is the space's own model, in its row.
CREATE TABLE engram.space_model (
    space smallint NOT NULL REFERENCES engram.space (id) ON DELETE CASCADE,
    number smallint NOT NULL CHECK (number > 0),
    model text NOT NULL,
    actor text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space, number),
    UNIQUE (space, model)
);

CREATE TABLE engram.workspace (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    read_space smallint NOT NULL REFERENCES engram.space (id),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE engram.api_key (
    id text PRIMARY KEY,
    workspace uuid NOT NULL REFERENCES engram.workspace (id),
    name text NOT NULL,
    secret_sha256 bytea NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE engram.namespace (
    workspace uuid NOT NULL,
    name text NOT NULL,
    row_count bigint NOT NULL DEFAULT 0,
    dedup_watermark bigint NOT NULL DEFAULT 0,
    read_space smallint REFERENCES engram.space (id),
    phase text NOT NULL DEFAULT 'steady' CHECK (phase IN ('steady', 'cutting')),
    created_at timestamptz NOT NULL DEFAULT now(),
    dedup_mark text,
    PRIMARY KEY (workspace, name)
);

CREATE TABLE engram.migration (
    id uuid PRIMARY KEY,
    source_space smallint REFERENCES engram.space (id) ON DELETE SET NULL,
    target_space smallint REFERENCES engram.space (id) ON DELETE SET NULL,
    phase text NOT NULL CHECK (phase IN (
        'planned', 'dual_write', 'backfill', 'verified', 'cut_over', 'released', 'aborted')),
    paused boolean NOT NULL DEFAULT false,
    plan jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    source_key text NOT NULL DEFAULT '',
    target_key text NOT NULL DEFAULT '',
    target_made boolean NOT NULL DEFAULT false,
    workspaces uuid[],
    home uuid,
    actor text NOT NULL DEFAULT '',
    options jsonb NOT NULL DEFAULT '{}',
    wish jsonb,
    progress jsonb NOT NULL DEFAULT '{}',
    verdict jsonb,
    error jsonb,
    phases jsonb NOT NULL DEFAULT '{}',
    lease uuid,
    leased_until timestamptz NOT NULL DEFAULT '-infinity'
);
-- One migration is under way at a time: this index is what holds it.
CREATE UNIQUE INDEX migration_under_way ON engram.migration ((true))
    WHERE phase IN ('dual_write', 'backfill', 'verified', 'cut_over');

-- How old vectors are re-expressed in the new space, and how well (domain/adapter.py).
CREATE TABLE engram.adapter (
    migration uuid PRIMARY KEY REFERENCES engram.migration (id) ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('ridge', 'procrustes')),
    penalty double precision NOT NULL,
    source_dimensions integer NOT NULL,
    target_dimensions integer NOT NULL,
    weights bytea NOT NULL,
    measured jsonb NOT NULL,
    worth_reading boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE engram.adapter ALTER COLUMN weights SET STORAGE EXTERNAL;

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

-- Memories ------------------------------------------------------------------------------------

CREATE TABLE engram.memory (
    workspace uuid NOT NULL,
    id uuid NOT NULL,
    namespace text NOT NULL,
    version integer NOT NULL,
    state text NOT NULL CHECK (state IN (
        'staged', 'active', 'superseded', 'merged', 'archived', 'deleted')),
    content text NOT NULL,
    content_sha256 bytea NOT NULL,
    fold_hash bytea,
    user_id text,
    agent_id text,
    session_id text,
    app_id text,
    metadata jsonb NOT NULL,
    categories text[] NOT NULL,
    importance double precision NOT NULL CHECK (importance > 0 AND importance <= 1),
    pinned boolean NOT NULL,
    source text NOT NULL,
    external_id text,
    merged_into uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    versioned_at timestamptz NOT NULL,
    versioned_by text NOT NULL,
    expires_at timestamptz,
    valid_until timestamptz,
    reinforced_at timestamptz NOT NULL,
    last_accessed_at timestamptz,
    access_count integer NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace, id)
) WITH (fillfactor = 90);

-- No index holds a column that decay, access or a change of state touches: those updates stay HOT.
CREATE INDEX memory_namespace ON engram.memory (workspace, namespace, id);
CREATE INDEX memory_fold ON engram.memory (workspace, fold_hash);

CREATE TABLE engram.memory_revision (
    workspace uuid NOT NULL,
    memory_id uuid NOT NULL,
    version integer NOT NULL,
    content text NOT NULL,
    event text NOT NULL CHECK (event IN ('created', 'updated')),
    at timestamptz NOT NULL,
    actor text NOT NULL,
    PRIMARY KEY (workspace, memory_id, version)
);

CREATE TABLE engram.memory_alias (
    workspace uuid NOT NULL,
    source text NOT NULL,
    external_id text NOT NULL,
    memory_id uuid NOT NULL,
    PRIMARY KEY (workspace, source, external_id)
);

-- Work that must happen -----------------------------------------------------------------------

CREATE TABLE engram.embedding_failure (
    workspace uuid NOT NULL,
    memory_id uuid NOT NULL,
    space smallint NOT NULL,
    version integer NOT NULL,
    attempts integer NOT NULL,
    class text NOT NULL,
    error text NOT NULL,
    next_attempt timestamptz NOT NULL,
    dead boolean NOT NULL DEFAULT false,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    discarded_at timestamptz,
    PRIMARY KEY (workspace, memory_id, space)
);
CREATE INDEX embedding_failure_due ON engram.embedding_failure (space, workspace, next_attempt)
    WHERE NOT dead;
CREATE INDEX embedding_failure_dead ON engram.embedding_failure (workspace, memory_id, space)
    WHERE dead;

CREATE TABLE engram.bulk_batch (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space smallint NOT NULL,
    workspace uuid NOT NULL,
    ids uuid[] NOT NULL,
    rung_at timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX bulk_batch_turn ON engram.bulk_batch (space, workspace, id);

CREATE TABLE engram.dead_letter (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('ingest', 'delivery')),
    workspace uuid,
    subject text NOT NULL,
    code text NOT NULL,
    detail text NOT NULL,
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 1,
    last_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letter_workspace ON engram.dead_letter (workspace, id);

CREATE TABLE engram.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid uuid NOT NULL,
    workspace uuid NOT NULL,
    subject text NOT NULL,
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE engram.sweep (
    name text PRIMARY KEY,
    every interval NOT NULL CHECK (every > interval '0'),
    next_due timestamptz NOT NULL DEFAULT now(),
    lease_holder uuid,
    lease_until timestamptz,
    last_started timestamptz,
    last_finished timestamptz,
    last_error text,
    enabled boolean NOT NULL DEFAULT true,
    last_duration_s double precision
);

-- Not partitioned by day: a unique key cannot span partitions, and a request retried across
-- midnight would be done twice. A sweep deletes what has expired.
CREATE TABLE engram.idempotency (
    workspace uuid NOT NULL,
    key text NOT NULL,
    request_sha256 bytea NOT NULL,
    status smallint NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    memory_id uuid,
    PRIMARY KEY (workspace, key)
);
CREATE INDEX idempotency_created ON engram.idempotency USING brin (created_at);
CREATE INDEX idempotency_memory ON engram.idempotency (workspace, memory_id)
    WHERE memory_id IS NOT NULL;

CREATE TABLE engram.vector_index (
    space smallint NOT NULL REFERENCES engram.space (id) ON DELETE CASCADE,
    name text NOT NULL,
    scope_workspace uuid,
    scope_namespace text,
    predicate text NOT NULL,
    seq_low bigint NOT NULL,
    seq_high bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('building', 'ready', 'retiring')),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space, name)
);

-- Merges, and what a person decides -----------------------------------------------------------

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
    planned_at timestamptz,
    PRIMARY KEY (workspace, id)
);
-- Two runs at once are one: this index is what holds it.
CREATE UNIQUE INDEX dedup_run_running ON engram.dedup_run (workspace) WHERE state = 'running';

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

-- seq is the order in which a survivor absorbed: it is given while the survivor is locked.
CREATE TABLE engram.merge (
    workspace uuid NOT NULL,
    id uuid NOT NULL,
    run_id uuid,
    kind text NOT NULL CHECK (kind IN ('repeat', 'near')),
    survivor uuid NOT NULL,
    actor text NOT NULL,
    created_at timestamptz NOT NULL,
    undone_at timestamptz,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    reason text NOT NULL DEFAULT '',
    rule_version text NOT NULL DEFAULT '',
    survivor_version integer,
    survivor_before jsonb,
    survivor_after jsonb,
    member_count integer NOT NULL DEFAULT 1,
    PRIMARY KEY (workspace, id)
);
CREATE INDEX merge_survivor ON engram.merge (workspace, survivor);
CREATE INDEX merge_run ON engram.merge (workspace, run_id) WHERE run_id IS NOT NULL;

CREATE TABLE engram.merge_member (
    workspace uuid NOT NULL,
    merge_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    version integer NOT NULL,
    before jsonb NOT NULL,
    undone_at timestamptz,
    cosine real,
    evidence jsonb NOT NULL DEFAULT '{}',
    carried jsonb,
    undone_by text,
    PRIMARY KEY (workspace, merge_id, memory_id)
);
CREATE INDEX merge_member_memory ON engram.merge_member (workspace, memory_id);

CREATE TABLE engram.proposal (
    workspace uuid NOT NULL,
    id uuid NOT NULL,
    low uuid NOT NULL,
    high uuid NOT NULL,
    cosine real NOT NULL,
    reason text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'accepted', 'rejected')),
    created_at timestamptz NOT NULL DEFAULT now(),
    low_version integer NOT NULL,
    high_version integer NOT NULL,
    survivor uuid,
    evidence jsonb NOT NULL DEFAULT '{}',
    rule_version text NOT NULL DEFAULT '',
    run_id uuid,
    decided_at timestamptz,
    decided_by text,
    merge_id uuid,
    PRIMARY KEY (workspace, id),
    UNIQUE (workspace, low, high),
    CHECK (low < high)
);
CREATE INDEX proposal_high ON engram.proposal (workspace, high);

CREATE TABLE engram.conflict (
    workspace uuid NOT NULL,
    id uuid NOT NULL,
    low uuid NOT NULL,
    high uuid NOT NULL,
    cosine real NOT NULL,
    reason text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved')),
    created_at timestamptz NOT NULL DEFAULT now(),
    low_version integer NOT NULL,
    high_version integer NOT NULL,
    survivor uuid,
    evidence jsonb NOT NULL DEFAULT '{}',
    rule_version text NOT NULL DEFAULT '',
    run_id uuid,
    decided_at timestamptz,
    decided_by text,
    before jsonb,
    PRIMARY KEY (workspace, id),
    UNIQUE (workspace, low, high),
    CHECK (low < high)
);
CREATE INDEX conflict_high ON engram.conflict (workspace, high);

-- Decay ---------------------------------------------------------------------------------------

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

-- Moves, audit, webhooks ----------------------------------------------------------------------

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

CREATE TABLE engram.audit (
    workspace uuid NOT NULL,
    id uuid NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    counts jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    subject text,
    format text,
    version text NOT NULL DEFAULT '',
    duration_s double precision,
    PRIMARY KEY (workspace, id)
);

CREATE TABLE engram.webhook (
    workspace uuid NOT NULL,
    id uuid NOT NULL,
    url text NOT NULL,
    secret text NOT NULL,
    kinds text[] NOT NULL,
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, id)
);

CREATE TABLE engram.delivery (
    workspace uuid NOT NULL,
    id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    payload bytea NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt timestamptz NOT NULL DEFAULT now(),
    dead boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, id)
);
CREATE INDEX delivery_due ON engram.delivery (next_attempt) WHERE NOT dead;

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
    document_at timestamptz NOT NULL DEFAULT '-infinity',
    owed_at timestamptz NOT NULL DEFAULT '-infinity',
    owed_tokens double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (provider, model, key_sha256)
);

-- Who may see what ----------------------------------------------------------------------------

-- A transaction of the API says which workspaces it is about, as a list: a read names one, a group
-- commit those in it. Unset or empty is an error, not an empty answer. The sub-select is evaluated
-- once a statement instead of once a row; IS TRUE keeps the planner from taking the policy for an
-- index condition and reading a whole workspace by it. FORCE binds the owner too, who has no policy at all.
DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY[
        'namespace', 'memory', 'memory_revision', 'memory_alias', 'embedding_failure',
        'bulk_batch',
        'dead_letter', 'outbox', 'idempotency', 'merge', 'merge_member', 'proposal', 'conflict',
        'dedup_run', 'dedup_task', 'dedup_preview', 'migration_namespace',
        'decay_setting', 'decay_run', 'decay_archive',
        'import_job', 'import_chunk', 'import_error', 'import_item', 'import_mark',
        'audit', 'webhook', 'delivery', 'api_key']
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

ALTER TABLE engram.workspace ENABLE ROW LEVEL SECURITY;
ALTER TABLE engram.workspace FORCE ROW LEVEL SECURITY;
CREATE POLICY of_workspace ON engram.workspace TO engram_api
    USING ((id = ANY ((SELECT current_setting('engram.workspaces')::uuid[])::uuid[])) IS TRUE);
CREATE POLICY worker ON engram.workspace TO engram_worker USING (true);

REVOKE UPDATE, DELETE ON engram.outbox FROM engram_api;
REVOKE UPDATE, DELETE ON engram.audit FROM engram_api;
GRANT SELECT ON engram.space, engram.workspace, engram.vector_index, engram.schema_version
    TO engram_api, engram_worker;
GRANT INSERT, UPDATE, DELETE ON engram.space, engram.workspace, engram.vector_index
    TO engram_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON engram.sweep, engram.migration TO engram_worker;
GRANT SELECT ON engram.space_model TO engram_api, engram_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON engram.adapter, engram.space_model TO engram_worker;
GRANT SELECT, INSERT, UPDATE ON engram.provider_budget TO engram_worker;
GRANT SELECT ON engram.decay_clock TO engram_api;
GRANT SELECT, INSERT, UPDATE ON engram.decay_clock TO engram_worker;
