-- A database that was restored starts shut (DESIGN section 6): while there is a row here, the program serves nothing.
-- The gate opens when the tombstones are replayed and the last kept head of every account is matched.
CREATE TABLE restore_gate (
    shut_at   timestamptz PRIMARY KEY,
    backup_id text        NOT NULL,
    -- when the backup was taken: what was recorded or made since is looked for
    taken_at  timestamptz NOT NULL
);
