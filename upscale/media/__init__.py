"""Everything that touches PyAV: reading, timing, planning and writing of media files; see README.md."""
