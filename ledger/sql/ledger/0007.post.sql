GRANT SELECT, INSERT, UPDATE, DELETE ON certificate TO lethe_writer;
-- A list is written once and stays.
GRANT SELECT, INSERT ON destruction_list, commitment_day TO lethe_writer;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['certificate', 'destruction_list', 'commitment_day']
    LOOP
        EXECUTE format(
            'CREATE VIEW lethe_read.%I WITH (security_barrier) AS SELECT * FROM lethe.%I '
            'WHERE tenant_id = NULLIF(current_setting(''lethe.tenant'', true), '''')::uuid', name, name);
        EXECUTE format('GRANT SELECT ON lethe_read.%I TO lethe_reader', name);
    END LOOP;
END
$$;
