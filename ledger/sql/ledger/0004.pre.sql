-- Legal holds (DESIGN section 5, FAULTS 13): what no plan and no erasure may destroy while a matter is open.
-- Everything here can be built again from the log. `holder` is the kid of the hold's own key, which opens its words
-- and the persons that it names; it belongs to no person.
CREATE TABLE legal_hold (
    tenant_id   uuid        NOT NULL,
    hold_id     uuid        NOT NULL,
    holder      bytea       NOT NULL,
    account     boolean     NOT NULL,
    review_on   date        NOT NULL,
    placed_at   timestamptz NOT NULL,
    released_at timestamptz,
    closed_at   timestamptz,
    PRIMARY KEY (tenant_id, hold_id)
);

-- What an active hold speaks of, looked up by target. A person is a keyed tag of their kid, and another of the kid of
-- their records; a campaign its id; a period the class and the month or day. Rows go when the hold is released.
CREATE TABLE legal_hold_target (
    tenant_id uuid  NOT NULL,
    kind      text  NOT NULL, -- person, record, campaign or period
    target    bytea NOT NULL,
    hold_id   uuid  NOT NULL,
    PRIMARY KEY (tenant_id, kind, target, hold_id)
);

-- What a plan is about to destroy, written in the transaction of its intent: a hold placed later is too late for it.
CREATE TABLE destruction_intent (
    tenant_id   uuid        NOT NULL,
    plan_id     uuid        NOT NULL,
    item        text        NOT NULL,
    class       text        NOT NULL,
    period      text        NOT NULL, -- '' where the item is about persons' keys or a whole class
    certificate text        NOT NULL,
    intended_at timestamptz NOT NULL,
    done_at     timestamptz,
    PRIMARY KEY (tenant_id, plan_id, item)
);
CREATE INDEX destruction_intent_period ON destruction_intent (tenant_id, class, period);

-- By which address an erasure can still be found, for as long as the day's key lives that also seals the fingerprints
-- of its intent: whoever asks for a hold in these hours is told that it comes too late, and under which certificate.
CREATE TABLE erasure_address (
    tenant_id  uuid  NOT NULL,
    day        text  NOT NULL,
    tag        bytea NOT NULL,
    erasure_id uuid  NOT NULL,
    PRIMARY KEY (tenant_id, day, tag, erasure_id)
);
