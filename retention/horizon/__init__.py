"""The backup horizon: epochs rolled and their keys destroyed on schedule, and every account's log told."""
