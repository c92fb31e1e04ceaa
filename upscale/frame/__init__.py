"""One frame in, one larger frame out."""
