-- Plans of retention and the end of an account (DESIGN sections 3 and 5, Mailkai 6.5 and 8, Mailenium 5).
-- A terminated account sends nothing. That must hold under the head lock like every other "no" (invariant I1), so the
-- head itself says it, and no authorisation has to read anything more for it.
ALTER TABLE head ADD COLUMN terminated_at timestamptz;

-- What was published of a month: the month itself ('' as subject) and each campaign. A row is never replaced, so that
-- figures are published once and never cut again in another way.
CREATE TABLE published_aggregate (
    tenant_id uuid   NOT NULL,
    month     text   NOT NULL,
    subject   text   NOT NULL,
    figures   jsonb  NOT NULL,
    withheld  text[] NOT NULL,
    position  bigint NOT NULL,
    PRIMARY KEY (tenant_id, month, subject)
);
-- Which months were published: the campaign view counts nothing of them any more. And what was told of one campaign.
CREATE INDEX published_month ON published_aggregate (tenant_id, month) WHERE subject = '';
CREATE INDEX published_subject ON published_aggregate (tenant_id, subject, month);

-- How many held persons' own keys were set aside before the item's key went: noted while that key still lives, because
-- a run that is taken up afterwards could not count them any more.
ALTER TABLE destruction_intent ADD COLUMN escrowed integer NOT NULL DEFAULT 0;
