-- What came of asking others about this log's checkpoints: witnesses, and the authority that stamps the time. The row
-- of one that answered says so; of one that did not, since when. Both are shown by the status and by the doctor, which
-- are other processes than the worker that asks.
CREATE TABLE log_attempt (
    tenant_id    uuid        NOT NULL,
    series       smallint    NOT NULL,
    -- 'witness' or 'timestamp'
    kind         text        NOT NULL,
    -- the witness's verifier key, the authority's address
    asked        text        NOT NULL,
    -- 'done', or why not
    outcome      text        NOT NULL,
    -- the size of the checkpoint that was shown
    size         bigint      NOT NULL,
    tried_at     timestamptz NOT NULL,
    -- the first of the tries that failed one after the other
    failing_since timestamptz,
    -- somebody must look: a witness holds another history of this log
    incident     boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, series, kind, asked)
);
