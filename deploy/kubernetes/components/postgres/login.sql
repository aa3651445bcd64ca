-- Run once by the Postgres image on an empty data directory, as the superuser, in the database postgres.
-- The login of engram is no superuser, so that row-level security holds; pgvector needs one, once.
\set ON_ERROR_STOP on
\set password `cat /run/secrets/database_password`
CREATE ROLE engram LOGIN CREATEROLE NOSUPERUSER NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE engram OWNER engram;
\connect engram
CREATE EXTENSION IF NOT EXISTS vector;
