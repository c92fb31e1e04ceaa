"""What a generator costs, by counting."""

from __future__ import annotations

from dataclasses import dataclass

from upscale.model.config import GeneratorConfig

#: Precisions that are counted: bytes of an activation and of a weight.
ELEMENT_BYTES = {"fp32": 4, "int8": 1}
_BIAS = 4  # float32, or int32 in int8 networks


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


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One operator on one frame.

    Attributes:
        name: as in the exported files.
        macs: multiply-accumulates.
        weights: bytes of weights and biases.
        read, written: bytes of activations.
    """

    name: str
    macs: int
    weights: int
    read: int
    written: int


def layer_costs(config: GeneratorConfig, height: int, width: int, precision: str = "fp32") -> list[LayerCost]:
    """Every operator of the exported network for an input of height × width pixels, first to last.

    Each operator is taken to read its inputs from memory and to write its output there, which is
    so where a frame is larger than the caches: no runtime here runs two convolutions at once. ReLU is
    part of its convolution. int8 networks take and give code values. That the integer files of
    full-resolution networks make their last layer over cells (`upscale.export.cells`) is left out.

    Args:
        height, width: multiples of the generator's `multiple`.
        precision: one of `ELEMENT_BYTES`.
    """
    u, size = config.unshuffle, ELEMENT_BYTES[precision]
    pixels = height * width
    cells = pixels // u**2
    last = config.layers[-1][1]
    start, end = pixels * size, cells * last * size

    def moved(name: str, read: int, written: int) -> LayerCost:
        return LayerCost(name, 0, 0, read, written)

    costs = [moved("unshuffled", start, start)] if u > 1 else []
    for i, (inputs, outputs) in enumerate(config.layers):
        weights = 9 * inputs * outputs
        costs.append(
            LayerCost(
                f"convs.{i}",
                macs=cells * weights,
                weights=weights * size + outputs * _BIAS,
                read=cells * inputs * size,
                written=cells * outputs * size,
            )
        )
    if u > 1:
        costs.append(moved("anchor", start, end))
    costs.append(moved("anchored", end + (end if u > 1 else start), end))
    costs.append(moved("upscaled", end, end))
    return costs


def frame_bytes(config: GeneratorConfig, height: int, width: int, precision: str = "fp32") -> int:
    """Bytes that one frame moves between the processor and memory: the sum of `layer_costs`."""
    return sum(c.weights + c.read + c.written for c in layer_costs(config, height, width, precision))
