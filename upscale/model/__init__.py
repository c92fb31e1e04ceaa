"""The network: its shape, its weights files and its exporters. Knows nothing of video or runtimes."""
