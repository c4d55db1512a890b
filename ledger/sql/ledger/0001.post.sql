-- Who may do what (DESIGN section 4). The program runs as lethe_writer, which can add events and never change one.
-- lethe_reader sees only views that show one tenant at a time; the setting is per transaction, and after a pool's
-- first use an unset setting reads as '', hence the NULLIF. lethe_rebuilder fills new generations of projections.

GRANT USAGE ON SCHEMA lethe TO lethe_writer, lethe_reader, lethe_rebuilder;
GRANT SELECT, INSERT ON event TO lethe_writer;
-- SELECT … FOR UPDATE needs UPDATE on a column of head.
GRANT SELECT, INSERT, UPDATE ON head TO lethe_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON standing, contact_alias, suppression, campaign, tracking, campaign_count,
    suppression_change, parked_event, parked_feedback, idempotency, erasure TO lethe_writer;
GRANT SELECT, INSERT, UPDATE ON api_key TO lethe_writer;
GRANT SELECT ON migration TO lethe_writer, lethe_reader, lethe_rebuilder;

GRANT SELECT ON event TO lethe_rebuilder;
GRANT SELECT, UPDATE ON head TO lethe_rebuilder;
GRANT SELECT, INSERT, UPDATE, DELETE ON standing, contact_alias, suppression, campaign, tracking, campaign_count,
    suppression_change, parked_event TO lethe_rebuilder;

CREATE SCHEMA lethe_read;
GRANT USAGE ON SCHEMA lethe_read TO lethe_reader;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['head', 'event', 'standing', 'contact_alias', 'suppression', 'campaign', 'tracking',
        'campaign_count', 'suppression_change', 'parked_event', 'parked_feedback', 'erasure']
    LOOP
        EXECUTE format(
            'CREATE VIEW lethe_read.%I WITH (security_barrier) AS SELECT * FROM lethe.%I '
            'WHERE tenant_id = NULLIF(current_setting(''lethe.tenant'', true), '''')::uuid', name, name);
        EXECUTE format('GRANT SELECT ON lethe_read.%I TO lethe_reader', name);
    END LOOP;
END
$$;
