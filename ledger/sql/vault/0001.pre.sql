-- The vault: wrapped keys and the tombstones of destroyed ones. A key is named by tenant, holder (a random kid, or
-- empty for the tenant itself), class, period ('' for a person's key) and generation. A wrap opens only with the epoch
-- key, which never enters a database. A tombstone is for ever: what it names is never made again (invariant I5).
CREATE TABLE wrapped_key (
    tenant_id  uuid        NOT NULL,
    holder     bytea       NOT NULL,
    class      text        NOT NULL,
    period     text        NOT NULL,
    generation smallint    NOT NULL,
    epoch      integer     NOT NULL,
    wrap       bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, holder, class, period, generation)
);
CREATE INDEX wrapped_key_epoch ON wrapped_key (epoch);

CREATE TABLE tombstone (
    tenant_id    uuid        NOT NULL,
    holder       bytea       NOT NULL,
    class        text        NOT NULL,
    period       text        NOT NULL,
    destroyed_at timestamptz NOT NULL,
    cause        text        NOT NULL,
    certificate  text,
    destroyed    text[]      NOT NULL, -- the class of each key that went
    PRIMARY KEY (tenant_id, holder, class, period)
);
