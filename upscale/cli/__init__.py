"""The command line: options become one dataclass, which becomes one library call."""
