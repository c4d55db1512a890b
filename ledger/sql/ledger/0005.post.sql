-- The program publishes a figure once and cannot change or withdraw it.
GRANT SELECT, INSERT ON published_aggregate TO lethe_writer;
GRANT SELECT ON published_aggregate TO lethe_rebuilder;
CREATE VIEW lethe_read.published_aggregate WITH (security_barrier) AS SELECT * FROM lethe.published_aggregate
WHERE tenant_id = NULLIF(current_setting('lethe.tenant', true), '')::uuid;
GRANT SELECT ON lethe_read.published_aggregate TO lethe_reader;
