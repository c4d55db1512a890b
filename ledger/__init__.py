"""Where facts are written: commands, the append to PostgreSQL, sealing, and the vault of keys.

Everything that changes what is known goes through here. What it needs from the rooms above it names as ports.
"""
