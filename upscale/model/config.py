"""The generator's shape as plain data, readable without any runtime."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from upscale.errors import ModelError

#: Under 1 % of MobileNetV2's 3.4 M parameters: what "tiny" means in this project.
MAX_PARAMETERS = 34_000


@dataclass(frozen=True, slots=True)
class GeneratorConfig:
    """Shape of one generator.

    Attributes:
        unshuffle: 1 works at the input's resolution, 2 at half of it (space-to-depth first).
        channels: width of every hidden layer.
        body: 3×3 layers between the first and the last convolution.
        scale: factor on both sides; the family is ×2 only.
    """

    unshuffle: int = 2
    channels: int = 32
    body: int = 3
    scale: int = 2

    def __post_init__(self) -> None:
        if self.scale != 2 or self.unshuffle not in (1, 2):
            raise ModelError(f"unsupported generator: scale {self.scale}, unshuffle {self.unshuffle}")
        if not (1 <= self.channels <= 256 and 0 <= self.body <= 64):
            raise ModelError(f"unsupported generator: {self.channels} channels, {self.body} body layers")

    @property
    def multiple(self) -> int:
        """What both sides of the input must be a multiple of.

        At full resolution too: the integer files compute their last layer over cells of two by two pixels.
        """
        return 2

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(input channels, output channels) of every 3×3 convolution, first to last."""
        c = self.channels
        first, last = (self.unshuffle**2, c), (c, (self.scale * self.unshuffle) ** 2)
        return [first, *[(c, c)] * self.body, last]

    @property
    def anchor_channels(self) -> list[int]:
        """For each output channel before the pixel shuffle, the input channel that anchors it.

        Output channel r·(2u)+c is the picture's sub-pixel (r, c) in a block of 2u×2u; its nearest
        input sample is sub-pixel (r//2, c//2) of the u×u block.
        """
        u, s = self.unshuffle, self.scale
        side = u * s
        return [(r // s) * u + (c // s) for r in range(side) for c in range(side)]

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> GeneratorConfig:
        """Read what `to_json` wrote.

        Raises:
            ModelError: not JSON, or not such a configuration.
        """
        try:
            fields = json.loads(text)
            return cls(**{k: int(v) for k, v in fields.items()})
        except (ValueError, TypeError, AttributeError) as e:
            raise ModelError("the weights file's configuration cannot be read") from e
