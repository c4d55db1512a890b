"""The transparency log of each tenant: tiles and signed checkpoints (C2SP), published by one sequencer (DESIGN 9)."""
