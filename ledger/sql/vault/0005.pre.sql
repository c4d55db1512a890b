-- Whose keys a plan destroys: random holders only, written before the intent is recorded and deleted when the plan is
-- applied. Fate 0 is waiting, 1 destroyed, 2 spared because something kept the key alive in the meantime.
CREATE TABLE condemned (
    tenant_id  uuid     NOT NULL,
    plan_id    uuid     NOT NULL,
    item       text     NOT NULL,
    holder     bytea    NOT NULL,
    generation smallint NOT NULL,
    class      text     NOT NULL,
    fate       smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, plan_id, item, holder, generation)
);
-- A hold asks whether somebody's keys are condemned already.
CREATE INDEX condemned_holder ON condemned (tenant_id, holder);
