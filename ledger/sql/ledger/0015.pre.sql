-- What the log shows of processing, counted by day: which categories of data were stored, and where data went. Records
-- of processing set it beside what the account declared (GDPR Art. 30). It repeats what entries show anyway and names
-- nobody. One of category and code is '': a row counts a category of data, or a recipient.
CREATE TABLE observed_count (
    tenant_id   uuid     NOT NULL,
    generation  smallint NOT NULL,
    topic       text     NOT NULL,
    category    text     NOT NULL DEFAULT '',
    code        text     NOT NULL DEFAULT '',
    recorded_on date     NOT NULL,
    occurred_on date     NOT NULL,
    count       bigint   NOT NULL,
    PRIMARY KEY (tenant_id, generation, topic, category, code, recorded_on, occurred_on)
);
