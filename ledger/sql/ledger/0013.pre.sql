-- The transparency log (DESIGN section 9): what is published of each tenant's entries, so that a stranger can check
-- them. Nothing here is personal: hashes of entries, signed sizes and roots, and what others signed about them.

-- A run of checkpoints under one origin. There is one, unless a restore lost events that were published and somebody
-- accepted that: the old origin can never again be signed for those sizes, so the log goes on under another. `size` is
-- how many leaves its tiles hold; its row is what one sequencer at a time holds.
CREATE TABLE log_series (
    tenant_id uuid        NOT NULL,
    series    smallint    NOT NULL,
    origin    text        NOT NULL,
    opened_at timestamptz NOT NULL,
    size      bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, series)
);

-- The keys that sign a series, as the log's own facts tell it (log.key_opened, log.key_retired): public keys only.
CREATE TABLE log_key (
    tenant_id    uuid        NOT NULL,
    generation   smallint    NOT NULL,
    series       smallint    NOT NULL,
    key_id       text        NOT NULL,
    verifier_key text        NOT NULL,
    opened_at    timestamptz NOT NULL,
    retired_at   timestamptz,
    PRIMARY KEY (tenant_id, generation)
);

-- Tiles in the sense of C2SP tlog-tiles: up to 256 hashes of 32 bytes, side by side. The last one of a level grows, by
-- its end only; a partial tile is its beginning.
CREATE TABLE log_tile (
    tenant_id uuid     NOT NULL,
    series    smallint NOT NULL,
    level     smallint NOT NULL,
    number    bigint   NOT NULL,
    hashes    bytea    NOT NULL CHECK (octet_length(hashes) BETWEEN 32 AND 8192 AND octet_length(hashes) % 32 = 0),
    PRIMARY KEY (tenant_id, series, level, number)
);
-- Hashes cannot be compressed.
ALTER TABLE log_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- What was signed. The primary key is the promise: never two roots for one size of one origin.
CREATE TABLE log_checkpoint (
    tenant_id    uuid        NOT NULL,
    series       smallint    NOT NULL,
    size         bigint      NOT NULL,
    root         bytea       NOT NULL CHECK (octet_length(root) = 32),
    note         bytea       NOT NULL,
    published_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, series, size)
);

-- What witnesses signed about a checkpoint: the line of the note.
CREATE TABLE log_cosignature (
    tenant_id   uuid        NOT NULL,
    series      smallint    NOT NULL,
    size        bigint      NOT NULL,
    witness     text        NOT NULL,
    line        text        NOT NULL,
    cosigned_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, series, size, witness)
);

-- RFC 3161 tokens over the SHA-256 of a checkpoint's text.
CREATE TABLE log_timestamp (
    tenant_id  uuid        NOT NULL,
    series     smallint    NOT NULL,
    size       bigint      NOT NULL,
    authority  text        NOT NULL,
    token      bytea       NOT NULL,
    stamped_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, series, size, authority)
);
