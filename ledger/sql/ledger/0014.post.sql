-- The writer asks and notes; it is the only table of the log whose rows are written over, and nothing is proved by it.
GRANT SELECT, INSERT, UPDATE ON log_attempt TO lethe_writer;
GRANT SELECT ON log_attempt TO lethe_rebuilder;
CREATE VIEW lethe_read.log_attempt WITH (security_barrier) AS SELECT * FROM lethe.log_attempt
    WHERE tenant_id = NULLIF(current_setting('lethe.tenant', true), '')::uuid;
GRANT SELECT ON lethe_read.log_attempt TO lethe_reader;
