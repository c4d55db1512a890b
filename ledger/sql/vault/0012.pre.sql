-- Keys that the law keeps from an erased person move to a new holder; on which day, until the daily chore has written
-- them anew among each other, in no order (`ledger/keys/rehoming.py`). After that 1970-01-01 stands there: it was moved once.
ALTER TABLE wrapped_key ADD COLUMN moved_on date;
CREATE INDEX wrapped_key_moved ON wrapped_key (tenant_id, moved_on) WHERE moved_on IS NOT NULL;
