"""Rounds a network to integers, calibrated on real pictures: the source of both int8 files.

Luma enters as code values and leaves as code values; nothing between is float. One step of the residual is
one code value: the anchor is the picture's own codes, so rounding the residual is the very rounding that the
float network's output goes through. Any other step would round twice, and faint residuals on flat areas
would flip by a code value where they should not, which flickers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from upscale.backends.base import psnr_of_error
from upscale.errors import ModelError
from upscale.export.gptq import kernel_scales, round_kernel, second_moments
from upscale.export.onnx import Weights, conv_weights
from upscale.model.config import GeneratorConfig

if TYPE_CHECKING:
    import torch

#: What the integers must reach against the float network, in dB.
MIN_PSNR = 45.0
#: Real value of one code of luma.
CODE = 1 / 255
#: Parts of a layer's largest value that are tried as its range: what is beyond is clipped, for finer steps.
_RANGES = (1.0, 0.9, 0.8, 0.7, 0.6)

Floats = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class IntegerLayer:
    """One convolution: round((kernel * codes + bias) · input scale · kernel scales / scale), clipped.

    Attributes:
        kernel: (O, I, 3, 3) int8, symmetric: -127 … 127.
        kernel_scales: (O,) float32, real value of one code of each output channel's kernel.
        bias: (O,) int32, in units of input scale · kernel scales.
        scale: real value of one code of what comes out: 0 … 255 after ReLU, -128 … 127 of the last layer.
    """

    kernel: npt.NDArray[np.int8]
    kernel_scales: Floats
    bias: npt.NDArray[np.int32]
    scale: float


@dataclass(frozen=True, slots=True)
class IntegerNetwork:
    """Attributes:
    psnr: of its pictures against the float network's, both in code values, in dB, over pictures that the
        calibration has not seen where there is more than one.
    """

    config: GeneratorConfig
    layers: tuple[IntegerLayer, ...]
    psnr: float


def quantize(config: GeneratorConfig, weights: Weights, pictures: Sequence[Picture]) -> IntegerNetwork:
    """Round a folded generator to integers.

    Kernels are rounded for the input that they get (`upscale.export.gptq`), which is worth 1 to 3 dB.
    Ranges are those that bring the pictures nearest to the float network's; then each bias takes up the
    mean error of its channel, which is worth 1 to 2 dB (Nagel et al. 2019, bias correction).

    Args:
        config, weights: as `upscale.export.onnx.build_onnx` takes them.
        pictures: real luma, (H, W) uint8, sides multiples of the generator's `unshuffle`. Every
            fourth one is kept for measuring.

    Raises:
        ModelError: the weights do not fit `config`, or the result is under `MIN_PSNR`.
        ValueError: no pictures.
    """
    if not pictures:
        raise ValueError("calibration needs at least one picture")
    layers = conv_weights(config, weights)
    with _one_thread():
        seen = CalibrationSet(config, layers, [p for i, p in enumerate(pictures) if i % 4 != 3])
        network = seen.correct_biases(seen.find_scales())
        psnr = CalibrationSet(config, layers, list(pictures[3::4]) or list(pictures)).psnr(network)
    if psnr < MIN_PSNR:
        raise ModelError(f"int8 loses too much: {psnr:.1f} dB, under {MIN_PSNR:.0f} dB")
    return IntegerNetwork(config, network, psnr)


def run_integers(
    config: GeneratorConfig, layers: Sequence[IntegerLayer], picture: Picture
) -> npt.NDArray[np.uint8]:
    """(H, W) code values → (2H, 2W): what the exported files compute, to one code value.

    Runtimes differ in how they round halves.
    """
    with _one_thread():
        start = _start(config, picture)
        residual = _run(layers, start, CODE)[-1] * layers[-1].scale
        codes: npt.NDArray[np.uint8] = _codes(config, residual, start).byte().numpy()
        return codes


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch from dividing pictures this small: the threads would only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


class CalibrationSet:
    """Pictures, and what the float network makes of them."""

    def __init__(
        self, config: GeneratorConfig, layers: list[tuple[Floats, Floats]], pictures: list[Picture]
    ) -> None:
        self._config = config
        self._layers = layers
        self._pictures = pictures
        self._starts = [_start(config, picture) for picture in pictures]
        self._values = [self._float(start) for start in self._starts]
        self._expected = [self._result(*pair) for pair in zip(self._values, self._starts, strict=True)]

    def find_scales(self) -> list[float]:
        """The scale of each layer's output, last to first, each the best with what is chosen so far."""
        tops = [max(float(v[i].abs().max()) for v in self._values) for i in range(len(self._layers))]
        # A layer that gives nothing on these pictures still needs a scale.
        scales = [CODE if self._is_last(i) else max(top, 1e-6) / 255 for i, top in enumerate(tops)]
        entries = [self._starts, *self._outputs(self.rounded(scales))]
        for i in reversed(range(len(scales) - 1)):
            tried = [[*scales[:i], scales[i] * part, *scales[i + 1 :]] for part in _RANGES]
            # What enters layer i is the same in all of them.
            input_scale = scales[i - 1] if i else CODE
            scores = [self._psnr(self.rounded(one)[i:], entries[i], input_scale) for one in tried]
            scales = tried[int(np.argmax(scores))]
        return scales

    def correct_biases(self, scales: list[float]) -> tuple[IntegerLayer, ...]:
        """The rounded layers with biases that take up each channel's mean error, first to last."""
        errors: list[Floats] = [np.zeros_like(bias) for _, bias in self._layers]
        entries = self._starts
        for i, scale in enumerate(scales):
            input_scale = scales[i - 1] if i else CODE
            layer = self.rounded(scales, errors)[i]
            is_last = i == len(scales) - 1
            means = [
                (values[i] - _convolve(layer, entry, input_scale, is_last) * scale).mean((0, 2, 3)).numpy()
                for values, entry in zip(self._values, entries, strict=True)
            ]
            errors[i] = np.mean(means, 0, dtype=np.float32)
            layer = self.rounded(scales, errors)[i]
            entries = [_convolve(layer, entry, input_scale, is_last) for entry in entries]
        corrected, plain = self.rounded(scales, errors), self.rounded(scales)
        return corrected if self.psnr(corrected) >= self.psnr(plain) else plain

    def rounded(
        self, scales: Sequence[float], errors: Sequence[Floats] | None = None
    ) -> tuple[IntegerLayer, ...]:
        """The layers in integers; `errors` is added to the biases."""
        made, input_scale = [], CODE
        for i, ((codes, per_channel), (_, bias)) in enumerate(zip(self._kernels, self._layers, strict=True)):
            wanted = bias if errors is None else bias + errors[i]
            limit = float(np.iinfo(np.int32).max)
            rounded = np.clip(np.rint(wanted / (per_channel.astype(np.float64) * input_scale)), -limit, limit)
            made.append(IntegerLayer(codes, per_channel, rounded.astype(np.int32), scales[i]))
            input_scale = scales[i]
        return tuple(made)

    @functools.cached_property
    def _kernels(self) -> list[tuple[npt.NDArray[np.int8], Floats]]:
        """`_kernel` of each layer; not made where only `psnr` is asked for."""
        return [self._kernel(i) for i in range(len(self._layers))]

    def _kernel(self, number: int) -> tuple[npt.NDArray[np.int8], Floats]:
        """Codes and scales of a layer's kernel, rounded for what the float network's layer gets."""
        inputs = [v[number - 1] for v in self._values] if number else [s * CODE for s in self._starts]
        kernel = self._layers[number][0]
        per_channel = kernel_scales(kernel)
        return round_kernel(kernel, per_channel, second_moments(inputs)), per_channel

    def psnr(self, network: Sequence[IntegerLayer]) -> float:
        """Of the integers' pictures against the float network's, in dB."""
        return self._psnr(network, self._starts, CODE)

    def _psnr(
        self, layers: Sequence[IntegerLayer], entries: Sequence[torch.Tensor], input_scale: float
    ) -> float:
        """`psnr` of the last `layers`, which codes of `input_scale` enter."""
        errors = []
        for entry, start, expected in zip(entries, self._starts, self._expected, strict=True):
            result = _codes(self._config, _run(layers, entry, input_scale)[-1] * layers[-1].scale, start)
            errors.append(float(((result - expected) ** 2).mean()))
        return psnr_of_error(sum(errors) / len(errors))

    def _outputs(self, network: Sequence[IntegerLayer]) -> list[list[torch.Tensor]]:
        """Codes after each layer but the last, of every picture."""
        by_picture = [_run(network, start, CODE)[:-1] for start in self._starts]
        return [list(values) for values in zip(*by_picture, strict=True)]

    def _result(self, values: list[torch.Tensor], start: torch.Tensor) -> torch.Tensor:
        return _codes(self._config, values[-1], start)

    def _float(self, start: torch.Tensor) -> list[torch.Tensor]:
        """(1, O, h, w) after each layer of the float network."""
        import torch
        import torch.nn.functional as F

        value, found = start * CODE, []
        for i, (kernel, bias) in enumerate(self._layers):
            value = F.conv2d(value, torch.from_numpy(kernel), torch.from_numpy(bias), padding=1)
            value = value if self._is_last(i) else F.relu(value)
            found.append(value)
        return found

    def _is_last(self, number: int) -> bool:
        return number == len(self._layers) - 1


def _run(layers: Sequence[IntegerLayer], value: torch.Tensor, input_scale: float) -> list[torch.Tensor]:
    """(1, O, h, w) codes after each of the last `layers`, as float32."""
    found = []
    for i, layer in enumerate(layers):
        value = _convolve(layer, value, input_scale, i == len(layers) - 1)
        found.append(value)
        input_scale = layer.scale
    return found


def _convolve(layer: IntegerLayer, value: torch.Tensor, input_scale: float, is_last: bool) -> torch.Tensor:
    """Codes → codes, both as float32, in which sums of integers below 2**24 are exact."""
    import torch
    import torch.nn.functional as F

    sums = F.conv2d(
        value, torch.from_numpy(layer.kernel).float(), torch.from_numpy(layer.bias).float(), padding=1
    )
    factors = torch.from_numpy((layer.kernel_scales * (input_scale / layer.scale)).astype(np.float32))
    low, high = (-128, 127) if is_last else (0, 255)
    return sums.mul_(factors[:, None, None]).round_().clamp_(low, high)


def _start(config: GeneratorConfig, picture: Picture) -> torch.Tensor:
    """(1, u², h, w) code values as float32."""
    import torch
    import torch.nn.functional as F

    pixels = torch.from_numpy(np.ascontiguousarray(picture)).float()[None, None]
    return F.pixel_unshuffle(pixels, config.unshuffle) if config.unshuffle > 1 else pixels


def _codes(config: GeneratorConfig, residual: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """The picture (2H, 2W) in code values as float32, of the last layer's real values."""
    import torch.nn.functional as F

    anchored = residual / CODE + start[:, list(config.anchor_channels)]
    return F.pixel_shuffle(anchored, config.scale * config.unshuffle)[0, 0].round_().clamp_(0, 255)
