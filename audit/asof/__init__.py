"""The past, asked two ways: as it was known on a day (recorded), and as it was true on a day (occurred)."""
