"""What a generator costs, by counting."""

from __future__ import annotations

from dataclasses import dataclass

from upscale.model.config import GeneratorConfig


@dataclass(frozen=True, slots=True)
class Complexity:
    """Attributes:
    parameters: weights and biases.
    macs_per_output_pixel: multiply-accumulates of the convolutions per upscaled luma pixel.
    receptive_field: side, in input pixels, of the square that one output pixel can depend on.
    """

    parameters: int
    macs_per_output_pixel: float
    receptive_field: int

    def macs_per_frame(self, height: int, width: int) -> float:
        """Multiply-accumulates for an output of height × width pixels."""
        return self.macs_per_output_pixel * height * width


def complexity(config: GeneratorConfig) -> Complexity:
    """Count parameters, multiply-accumulates and receptive field of `config`."""
    weights = sum(9 * i * o for i, o in config.layers)
    biases = sum(o for _, o in config.layers)
    # Each 3×3 layer runs once per position of the working grid, which holds (2u)² output pixels.
    per_pixel = weights / (config.scale * config.unshuffle) ** 2
    cells = 1 + 2 * len(config.layers)
    return Complexity(weights + biases, per_pixel, cells * config.unshuffle)
