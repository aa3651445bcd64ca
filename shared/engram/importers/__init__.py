"""Foreign files become records and per-item errors; pure, one file per format."""
