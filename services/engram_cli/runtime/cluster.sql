-- Run once, in single-user mode, on template1 of a new cluster: one statement a line.
-- Every database made later has pgvector, so the login role needs no superuser for it.
CREATE EXTENSION vector
ALTER ROLE postgres PASSWORD '{superuser_password}'
CREATE ROLE engram LOGIN CREATEROLE NOSUPERUSER NOBYPASSRLS PASSWORD '{password}'
CREATE DATABASE engram OWNER engram
