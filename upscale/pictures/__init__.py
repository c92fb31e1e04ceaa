"""Still pictures, and numbered ones that make a video."""
