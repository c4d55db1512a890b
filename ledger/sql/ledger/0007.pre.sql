-- Certificates of destruction (DESIGN section 6). Nothing in these tables is personal, and nothing in them leads from a
-- certificate, or from an erasure's id, to the events of the person whose keys went (invariant I11): no time finer than
-- a day once the day is over, no kid, no subject, and rows written anew in order of random ids, many at a time.

-- What the steps of an erasure acknowledged, until its day is over; then `settled_on` says when it was let go of.
ALTER TABLE erasure
    ADD COLUMN certificate_id uuid,
    ADD COLUMN progress       jsonb,
    ADD COLUMN settled_on     date;
-- What the daily chore takes up.
CREATE INDEX erasure_unsettled ON erasure (tenant_id, finished_at) WHERE settled_on IS NULL AND finished_at IS NOT NULL;

-- One signed document per row, in its newest revision. `epoch` is the newest epoch that the keys were wrapped under.
CREATE TABLE certificate (
    tenant_id      uuid     NOT NULL,
    certificate_id uuid     NOT NULL,
    kind           text     NOT NULL,
    day            date     NOT NULL,
    stage          smallint NOT NULL,
    revision       smallint NOT NULL,
    epoch          integer  NOT NULL,
    list_id        uuid,
    document       bytea    NOT NULL,
    signature      bytea    NOT NULL,
    PRIMARY KEY (tenant_id, certificate_id)
);
CREATE INDEX certificate_waiting ON certificate (tenant_id, epoch, certificate_id) WHERE stage = 1;
CREATE INDEX certificate_day ON certificate (tenant_id, day, certificate_id);

-- The commitments of destroyed keys, of several erasures of one day at a time, so that none of them is anybody's.
CREATE TABLE destruction_list (
    tenant_id uuid    NOT NULL,
    list_id   uuid    NOT NULL,
    day       date    NOT NULL,
    document  bytea   NOT NULL,
    PRIMARY KEY (tenant_id, list_id)
);

-- What was published of the keys that a day made: how many, the root over their commitments, and where it stands.
CREATE TABLE commitment_day (
    tenant_id uuid   NOT NULL,
    day       date   NOT NULL,
    keys      bigint NOT NULL,
    root      bytea  NOT NULL,
    position  bigint NOT NULL,
    PRIMARY KEY (tenant_id, day)
);
