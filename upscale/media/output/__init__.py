"""Planning and writing of media files."""
