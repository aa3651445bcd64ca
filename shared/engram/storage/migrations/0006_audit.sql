-- An audit entry says on what, in which format, with which engram and how long it took.
ALTER TABLE engram.audit
    ADD COLUMN subject text,
    ADD COLUMN format text,
    ADD COLUMN version text NOT NULL DEFAULT '',
    ADD COLUMN duration_s double precision;
