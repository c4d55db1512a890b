GRANT SELECT, INSERT, DELETE ON restore_gate TO lethe_writer;
GRANT SELECT ON restore_gate TO lethe_rebuilder;
