-- What makes vectors besides a space's own model: an adapter while a migration goes on, and the
-- other models of its family.
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
ALTER TABLE engram.space ADD COLUMN embeds_with smallint NOT NULL DEFAULT 0;

GRANT SELECT ON engram.space_model TO engram_api, engram_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON engram.adapter, engram.space_model TO engram_worker;

SET LOCAL ROLE engram_vec;
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'engram_vec' AND c.relkind = 'r'
    LOOP
        EXECUTE format(
            'ALTER TABLE engram_vec.%I ADD COLUMN model smallint NOT NULL DEFAULT 0', one.relname);
    END LOOP;
END
$$;
SET LOCAL ROLE NONE;
