-- The ledger's first schema. Every tenant table's primary key starts with tenant_id, so that Citus can shard by
-- tenant without a change of code; there are no triggers, no sequences and no extensions for the same reason.
-- Nothing here holds a personal value in the clear: fingerprints, keyed tags, pseudonymous ids and sealed bytes only.

-- One row per tenant: locking it is what makes positions gapless and a "no" final (invariants I1 and I3).
CREATE TABLE head (
    tenant_id         uuid PRIMARY KEY,
    position          bigint NOT NULL DEFAULT 0,
    recorded_at       timestamptz NOT NULL DEFAULT '-infinity',
    -- the last event that changed any standing, suppression or campaign: what was read before it must be read again
    restrict_position bigint NOT NULL DEFAULT 0,
    -- which generation of the inline projections serves; a rebuild fills the next one and moves this pointer
    generation        smallint NOT NULL DEFAULT 1
) WITH (fillfactor = 10);

CREATE TABLE event (
    tenant_id   uuid        NOT NULL,
    position    bigint      NOT NULL,
    stream_id   uuid        NOT NULL,
    version     integer     NOT NULL,
    topic       text        NOT NULL,
    recorded_at timestamptz NOT NULL,
    entry       bytea       NOT NULL,
    sealed      bytea,
    PRIMARY KEY (tenant_id, position),
    UNIQUE (tenant_id, stream_id, version)
);
ALTER TABLE event ALTER COLUMN entry SET STORAGE MAIN, ALTER COLUMN sealed SET STORAGE EXTENDED;

-- Inline projections: written in the same transaction as the events they come from.
CREATE TABLE standing (
    tenant_id   uuid     NOT NULL,
    generation  smallint NOT NULL,
    fingerprint bytea    NOT NULL,
    handle_tag  bytea    NOT NULL,
    epoch       integer  NOT NULL,
    sealed      bytea    NOT NULL,
    PRIMARY KEY (tenant_id, generation, fingerprint)
);
-- The tag comes first: an index that began like the primary key would look just as good to a planner without statistics.
CREATE INDEX standing_handle ON standing (handle_tag, tenant_id);

-- Superseded addresses of living persons: known, and never mailed.
CREATE TABLE contact_alias (
    tenant_id   uuid     NOT NULL,
    generation  smallint NOT NULL,
    fingerprint bytea    NOT NULL,
    handle_tag  bytea    NOT NULL,
    PRIMARY KEY (tenant_id, generation, fingerprint)
);
CREATE INDEX contact_alias_handle ON contact_alias (handle_tag, tenant_id);

CREATE TABLE suppression (
    tenant_id   uuid     NOT NULL,
    generation  smallint NOT NULL,
    fingerprint bytea    NOT NULL,
    scope       text     NOT NULL,
    cause       text     NOT NULL,
    since       date     NOT NULL,
    PRIMARY KEY (tenant_id, generation, fingerprint, scope, cause)
);

CREATE TABLE campaign (
    tenant_id          uuid        NOT NULL,
    generation         smallint    NOT NULL,
    campaign_id        uuid        NOT NULL,
    purpose            text        NOT NULL,
    channel            text        NOT NULL,
    kind               text        NOT NULL,
    tracking_disclosed boolean     NOT NULL,
    registered_at      timestamptz NOT NULL,
    closed             boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, generation, campaign_id)
);

-- Asynchronous projections, and where each of them stands.
CREATE TABLE tracking (
    tenant_id  uuid     NOT NULL,
    projection text     NOT NULL,
    generation smallint NOT NULL,
    position   bigint   NOT NULL DEFAULT 0,
    live       boolean  NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, projection, generation)
);

CREATE TABLE campaign_count (
    tenant_id   uuid        NOT NULL,
    generation  smallint    NOT NULL,
    campaign_id uuid        NOT NULL,
    hour        timestamptz NOT NULL,
    kind        text        NOT NULL,
    rule        text        NOT NULL DEFAULT '',
    count       bigint      NOT NULL,
    PRIMARY KEY (tenant_id, generation, campaign_id, hour, kind, rule)
);

CREATE TABLE suppression_change (
    tenant_id   uuid        NOT NULL,
    generation  smallint    NOT NULL,
    position    bigint      NOT NULL,
    kind        text        NOT NULL,
    scope       text        NOT NULL,
    cause       text        NOT NULL,
    campaign_id uuid,
    recorded_at timestamptz NOT NULL,
    feed_day    text        NOT NULL,
    address     bytea,
    PRIMARY KEY (tenant_id, generation, position)
);

-- Events that a projection could not take; shown by doctor, never skipped silently.
CREATE TABLE parked_event (
    tenant_id  uuid        NOT NULL,
    projection text        NOT NULL,
    generation smallint    NOT NULL,
    position   bigint      NOT NULL,
    reason     text        NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, projection, generation, position)
);

-- Feedback that could not be matched to a message, sealed under the feed key of its day.
CREATE TABLE parked_feedback (
    tenant_id uuid        NOT NULL,
    parked_id uuid        NOT NULL,
    reason    text        NOT NULL,
    feed_day  text        NOT NULL,
    sealed    bytea       NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, parked_id)
);

CREATE TABLE idempotency (
    tenant_id    uuid        NOT NULL,
    key_hash     bytea       NOT NULL,
    part         integer     NOT NULL,
    request_hash bytea       NOT NULL,
    feed_day     text        NOT NULL,
    answer       bytea       NOT NULL,
    recorded_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key_hash, part)
);

-- One row per erasure: the saga's bookmark. `reference` is sealed and emptied when the keys are gone.
CREATE TABLE erasure (
    tenant_id    uuid        NOT NULL,
    erasure_id   uuid        NOT NULL,
    deletion_id  uuid,
    state        text        NOT NULL,
    cause        text        NOT NULL,
    epoch        integer,
    reference    bytea,
    requested_at timestamptz NOT NULL,
    finished_at  timestamptz,
    PRIMARY KEY (tenant_id, erasure_id)
);
CREATE INDEX erasure_open ON erasure (tenant_id, state) WHERE finished_at IS NULL;

CREATE TABLE api_key (
    tenant_id   uuid        NOT NULL,
    key_id      text        NOT NULL,
    secret_hash bytea       NOT NULL,
    scopes      text[]      NOT NULL,
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    PRIMARY KEY (tenant_id, key_id)
);
