-- A floor may rise; the program never lowers or deletes it.
GRANT SELECT, INSERT, UPDATE ON period_floor TO lethe_vault;
