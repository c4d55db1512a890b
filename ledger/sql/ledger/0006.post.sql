GRANT SELECT, INSERT, UPDATE ON epoch_told TO lethe_writer;
