-- The writer signs once and never takes back: a checkpoint, a cosignature and a timestamp are written and stay. The
-- growing tile, the size of a series and the end of a key are all that may change. SELECT … FOR UPDATE needs UPDATE on a column.
GRANT SELECT, INSERT ON log_series, log_key, log_tile, log_checkpoint, log_cosignature, log_timestamp TO lethe_writer;
GRANT UPDATE (size) ON log_series TO lethe_writer;
GRANT UPDATE (retired_at) ON log_key TO lethe_writer;
GRANT UPDATE (hashes) ON log_tile TO lethe_writer;
GRANT SELECT ON log_series, log_key, log_tile, log_checkpoint, log_cosignature, log_timestamp TO lethe_rebuilder;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['log_series', 'log_key', 'log_tile', 'log_checkpoint',
        'log_cosignature', 'log_timestamp']
    LOOP
        EXECUTE format(
            'CREATE VIEW lethe_read.%I WITH (security_barrier) AS SELECT * FROM lethe.%I '
            'WHERE tenant_id = NULLIF(current_setting(''lethe.tenant'', true), '''')::uuid', name, name);
        EXECUTE format('GRANT SELECT ON lethe_read.%I TO lethe_reader', name);
    END LOOP;
END
$$;
