GRANT SELECT, INSERT, UPDATE, DELETE ON legal_hold, legal_hold_target TO lethe_writer, lethe_rebuilder;
GRANT SELECT, INSERT, UPDATE ON destruction_intent TO lethe_writer;
GRANT SELECT, INSERT, DELETE ON erasure_address TO lethe_writer;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['legal_hold', 'legal_hold_target', 'destruction_intent']
    LOOP
        EXECUTE format(
            'CREATE VIEW lethe_read.%I WITH (security_barrier) AS SELECT * FROM lethe.%I '
            'WHERE tenant_id = NULLIF(current_setting(''lethe.tenant'', true), '''')::uuid', name, name);
        EXECUTE format('GRANT SELECT ON lethe_read.%I TO lethe_reader', name);
    END LOOP;
END
$$;
