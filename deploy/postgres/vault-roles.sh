#!/bin/sh
# Runs once, when the vault's database is made: the one role that reads and destroys wrapped keys.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set vault="$LETHE_VAULT_PASSWORD" <<'SQL'
CREATE ROLE lethe_vault LOGIN NOINHERIT PASSWORD :'vault';
SQL
