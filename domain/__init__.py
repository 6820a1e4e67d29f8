"""Pure calculation and words: no I/O, no clock, no environment."""
