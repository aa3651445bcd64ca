-- Until when the stores of a space look whether a namespace is being cut over; each setting of it
-- differs from the one before, by which a store knows that it began before it (embed.sql, cutting.sql).
ALTER TABLE engram.space ADD COLUMN fenced_until timestamptz NOT NULL DEFAULT '-infinity';
