"""`python -m upscale`."""

from __future__ import annotations

from upscale.cli.main import main

if __name__ == "__main__":
    main()
