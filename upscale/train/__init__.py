"""From a folder of clips and pictures to a folded network on every runtime (extra `train`)."""
