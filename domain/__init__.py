"""What can happen and what is allowed: pure decisions over facts, with no I/O, no database and no clock."""
