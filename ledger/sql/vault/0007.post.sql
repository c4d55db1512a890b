GRANT SELECT, INSERT ON key_commitment TO lethe_vault;
-- Which keys went is told by the day's list; after that a person's tombstone forgets it. What it forbids stays for ever.
GRANT UPDATE (destroyed) ON tombstone TO lethe_vault;
