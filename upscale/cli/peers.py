"""`upscale bench --peers DIR [--clip FILE]`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from upscale.cli.text import say, table

#: Fields of the rows with measures: (name, title, decimals).
_QUALITY = (("psnr", "PSNR-Y", 2), ("ssim", "SSIM", 4), ("lpips", "LPIPS", 4))


def peers_report(
    folder: str,
    clip: str | None,
    frames: int | None,
    runs: int | None,
    given: dict[str, Any],
    as_json: bool,
) -> None:
    """Print the table, and as JSON the report, of `upscale.bench.peers.compare_peers`.

    Args:
        given: the options model, backend and precision of the command line.
    """
    from upscale.bench.peers import PeerConfig, compare_peers

    chosen: dict[str, Any] = {"frames": frames, "rounds": runs}
    chosen |= {name: given[name] for name in ("backend", "precision")}
    if given["model"] is not None:
        chosen["models"] = (given["model"],)
    config = PeerConfig(
        folder=Path(folder),
        clip=Path(clip) if clip is not None else None,
        **{k: v for k, v in chosen.items() if v is not None},
    )
    report = compare_peers(config, _measures() if clip is not None else (), say)
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    print(peers_table(report["rows"]))
    if as_json:
        print(json.dumps(report))


def _measures() -> list[str]:
    """PSNR, SSIM and, with a remark where its weights are missing, LPIPS."""
    from upscale.metrics.meter import available_measures

    usable, missing = available_measures()
    if "lpips" not in usable:
        say(missing[0])
    return [name for name, _, _ in _QUALITY if name in usable]


def peers_table(rows: list[dict[str, Any]]) -> str:
    """For people; columns of quality only where it was measured."""
    used = [column for column in _QUALITY if any(r[column[0]] is not None for r in rows)]
    lines = [
        [
            r["name"],
            r["runtime"],
            f"{r['milliseconds']:.1f}",
            f"{r['cpu_seconds']:.4f}",
            f"{r['times_ours']:.2f}",
            *("" if r[name] is None else f"{r[name]:.{decimals}f}" for name, _, decimals in used),
        ]
        for r in rows
    ]
    header = ["network", "runtime", "ms/frame", "CPU s/frame", "x our time", *(title for _, title, _ in used)]
    return table(lines, header)
