"""Work that is more than one file."""
