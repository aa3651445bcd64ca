"""Pure rules: no clock, no randomness, no input or output; only the standard library and numpy."""
