-- Generations of link keys (DESIGN section 3): the first link month that a generation serves, and the first that it
-- does not serve any more. A first generation serves from ever; any other without a first month is not in use yet.
ALTER TABLE wrapped_key
    ADD COLUMN serves_from  text,
    ADD COLUMN serves_until text;
