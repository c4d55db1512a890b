-- Retention by destroying keys (DESIGN sections 5 and 6). A person's key gets a clock: the last day on which something
-- happened that keeps it alive. Days are those of the ledger's clock, so that a simulated ledger keeps them too.
-- Commitments are hashes of random keys: what a certificate says was destroyed was named when it was made.
ALTER TABLE wrapped_key
    ADD COLUMN created_on date NOT NULL DEFAULT CURRENT_DATE,
    ADD COLUMN last_on    date NOT NULL DEFAULT CURRENT_DATE,
    ADD COLUMN commitment bytea;
-- What is due of a class, person by person.
CREATE INDEX wrapped_key_due ON wrapped_key (tenant_id, class, holder) WHERE period = '';

-- A tombstone may be of one generation of a key; 0 is every generation.
ALTER TABLE tombstone ADD COLUMN generation smallint NOT NULL DEFAULT 0;
ALTER TABLE tombstone DROP CONSTRAINT tombstone_pkey;
ALTER TABLE tombstone ADD PRIMARY KEY (tenant_id, holder, class, period, generation);

-- The newest period of a class that was destroyed: a period at or before it is never made, also if it never had a key.
CREATE TABLE period_floor (
    tenant_id uuid NOT NULL,
    class     text NOT NULL,
    floor     text NOT NULL,
    PRIMARY KEY (tenant_id, class)
);
