"""Policy packs: a privacy policy as data, its clocks, what an account lives under, and the report of how it is kept."""
