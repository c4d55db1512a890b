-- Which key an epoch was opened with: a hash of it, which opens nothing. Empty key folders, or folders of another
-- installation, are told by it before anything is wrapped. NULL until the next start of a process for older epochs.
ALTER TABLE epoch ADD COLUMN commitment bytea;
