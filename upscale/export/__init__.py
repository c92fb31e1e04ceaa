"""Files of a network for every runtime."""
