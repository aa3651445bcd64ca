-- Run once, in single-user mode, on template1 of a new cluster: one statement a line.
-- Every database made later has pgvector, so the login role needs no superuser for it.
-- The passwords are 192 bits of chance, which nobody guesses. Iterations make guessing of words slow,
-- and here nothing but each connection: 4,096 of them cost both its ends 10 ms of a core.
SET scram_iterations = 1
CREATE EXTENSION vector
ALTER ROLE postgres PASSWORD '{superuser_password}'
CREATE ROLE engram LOGIN CREATEROLE NOSUPERUSER NOBYPASSRLS PASSWORD '{password}'
CREATE DATABASE engram OWNER engram
