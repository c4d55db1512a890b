-- The program may add, read, renew and destroy wraps; it may add tombstones and never take one away.
GRANT USAGE ON SCHEMA lethe_vault TO lethe_vault;
GRANT SELECT, INSERT, UPDATE, DELETE ON wrapped_key TO lethe_vault;
GRANT SELECT, INSERT ON tombstone TO lethe_vault;
GRANT SELECT ON migration TO lethe_vault;
