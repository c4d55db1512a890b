"""Legal holds: what waits for their release, and the keys of held persons that are set aside."""
