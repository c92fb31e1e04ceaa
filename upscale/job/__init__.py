"""One input, one output."""
