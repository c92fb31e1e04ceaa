"""Writes a generator as one HTML page that plays videos enlarged, through WebGL 2.

`player.js` is the core, one function `upscale.attach(video, canvas)`, and `player.html` the page around it;
both are text that only lacks the weights. The core by itself (FILE.js) is what other pages embed.

A model with a fidelity model carries both ends, so that the strength is a slider: blending 33,000 numbers
takes the browser a millisecond.
"""

from __future__ import annotations

import base64
import json
from importlib.resources import files

from upscale.export.tensors import Network, packed, padded


def web_core(
    network: Network,
    fidelity: Network | None = None,
    strength: float = 1,
    licence: str = "that of the weights",
) -> str:
    """The script: everything but the page.

    Args:
        network: the weights at strength 1.
        fidelity: the weights at strength 0, of the same shape.
        strength: where the page's slider begins.
        licence: of the weights, for readers of the file.
    """
    ends = [network] if fidelity is None else [network, fidelity]
    model = {
        "name": network.name,
        "unshuffle": network.config.unshuffle,
        "layers": [[n // 4 for n in padded(layer)[0].shape[1::-1]] for layer in network.layers],
        "strength": strength,
        "sha256": [end.sha256 for end in ends],
        "licence": licence,
        "ends": [_encoded(end) for end in ends],
    }
    return _template("player.js").replace("/*MODEL*/ null", json.dumps(model))


def web_page(
    network: Network,
    fidelity: Network | None = None,
    strength: float = 1,
    licence: str = "that of the weights",
) -> str:
    """The whole page; arguments as of `web_core`."""
    comment = (
        f"<!-- upscale {network.name}. weights: SHA-256 {network.sha256}. licence: {licence}. "
        "needs: a browser with WebGL 2 and float textures -->"
    )
    page = _template("player.html").replace("<!--COMMENT-->", comment)
    return page.replace("/*CORE*/", web_core(network, fidelity, strength, licence))


def _encoded(network: Network) -> str:
    """Every layer as `packed` orders it, one after the other, little-endian float32 in base64."""
    data = b"".join(packed(layer).astype("<f4").tobytes() for layer in network.layers)
    return base64.b64encode(data).decode()


def _template(name: str) -> str:
    return files("upscale.export").joinpath(name).read_text(encoding="utf-8")
