-- The program opens epochs and notes what became of them; it takes none away.
GRANT SELECT, INSERT, UPDATE ON epoch TO lethe_vault;
