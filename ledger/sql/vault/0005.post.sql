GRANT SELECT, INSERT, UPDATE, DELETE ON condemned TO lethe_vault;
