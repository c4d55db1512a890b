-- Key commitments, published once a day (DESIGN section 6). A commitment is a hash of a random key; there is no holder
-- beside it, and a day's rows are written in order of the commitments themselves, so that they repeat nobody's order.
CREATE TABLE key_commitment (
    tenant_id  uuid  NOT NULL,
    created_on date  NOT NULL,
    commitment bytea NOT NULL,
    PRIMARY KEY (tenant_id, created_on, commitment)
);
-- The keys that a day made, for publishing them.
CREATE INDEX wrapped_key_created ON wrapped_key (tenant_id, created_on);
-- Tombstones that still tell which keys went.
CREATE INDEX tombstone_telling ON tombstone (tenant_id, destroyed_at) WHERE destroyed <> '{}';
