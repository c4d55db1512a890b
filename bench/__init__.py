"""What Lethe does per second, as ratios to raw PostgreSQL and to the stock libraries, taken in one run."""
