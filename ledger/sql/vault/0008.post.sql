GRANT SELECT, INSERT, DELETE ON restore_gate TO lethe_vault;
