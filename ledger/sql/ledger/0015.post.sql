GRANT SELECT, INSERT, UPDATE, DELETE ON observed_count TO lethe_writer, lethe_rebuilder;
CREATE VIEW lethe_read.observed_count WITH (security_barrier) AS SELECT * FROM lethe.observed_count
    WHERE tenant_id = NULLIF(current_setting('lethe.tenant', true), '')::uuid;
GRANT SELECT ON lethe_read.observed_count TO lethe_reader;
