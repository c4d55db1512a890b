-- Rolling the ledger's own rows into a new epoch (DESIGN section 6). The head says under which epoch a tenant's standing
-- is written, and up to which none is left: both change under the head lock that every writer holds, so that no row is
-- written under an epoch that was rolled. Until now there was one epoch.
ALTER TABLE head
    ADD COLUMN epoch        integer NOT NULL DEFAULT 1,
    ADD COLUMN epoch_rolled integer NOT NULL DEFAULT 0;

-- Which facts about an epoch a tenant's log holds: the stream they stand in and its newest version.
CREATE TABLE epoch_told (
    tenant_id uuid    NOT NULL,
    epoch     integer NOT NULL,
    stream_id uuid    NOT NULL,
    version   integer NOT NULL,
    PRIMARY KEY (tenant_id, epoch)
);
