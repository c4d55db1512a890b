#!/bin/sh
# Runs once, when the ledger's database is made: the roles that the program signs in with. What each may do is
# granted by the migrations; none of them owns a table, and none can change an event.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set writer="$LETHE_WRITER_PASSWORD" \
    --set reader="$LETHE_READER_PASSWORD" \
    --set rebuilder="$LETHE_REBUILDER_PASSWORD" <<'SQL'
CREATE ROLE lethe_writer LOGIN NOINHERIT PASSWORD :'writer';
CREATE ROLE lethe_reader LOGIN NOINHERIT PASSWORD :'reader';
CREATE ROLE lethe_rebuilder LOGIN NOINHERIT PASSWORD :'rebuilder';
SQL
