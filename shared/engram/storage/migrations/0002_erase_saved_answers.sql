-- A saved answer holds the record of a memory: deleting the memory must find it.
ALTER TABLE engram.idempotency ADD COLUMN memory_id uuid;
CREATE INDEX idempotency_memory ON engram.idempotency (workspace, memory_id)
    WHERE memory_id IS NOT NULL;
