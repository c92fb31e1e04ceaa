"""Long jobs that continue after an interruption."""
