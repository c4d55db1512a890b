-- Epochs (DESIGN section 6). The newest row says under which epoch key wraps are written: a writer reads it under a lock
-- that the opening of an epoch waits for, so that nobody writes under an epoch whose roll was verified, however stale
-- what they know of the key provider. A wrap at or below a verified epoch is refused when it is read (FAULTS 17).
CREATE TABLE epoch (
    epoch        integer     PRIMARY KEY,
    opened_at    timestamptz NOT NULL,
    destroy_on   date        NOT NULL, -- what certificates state; it only ever moves to an earlier day
    rolled_at    timestamptz,          -- every wrap and every row of the ledger is under a later epoch
    verified_at  timestamptz,          -- … and each of them was seen to open
    destroyed_at timestamptz,
    destruction  jsonb                 -- copy by copy: place, method, days until it is gone for its keeper too
);
