-- Dead letters can be tried again and discarded. A discarded failure stays as a row, because that
-- is what keeps reconcile from bringing its memory back to the provider.
ALTER TABLE engram.embedding_failure ADD COLUMN discarded_at timestamptz;
CREATE INDEX embedding_failure_dead ON engram.embedding_failure (workspace, memory_id, space)
    WHERE dead;
ALTER TABLE engram.dead_letter ADD COLUMN attempts integer NOT NULL DEFAULT 1;
ALTER TABLE engram.dead_letter ADD COLUMN last_at timestamptz NOT NULL DEFAULT now();
UPDATE engram.dead_letter SET last_at = created_at;
