"""Small untrained networks in every format, and real frames, for the tests of models and backends."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from safetensors.numpy import save_file

from upscale.export.onnx import build_onnx, conv_weights
from upscale.export.tensors import Network
from upscale.export.tflite import build_tflite
from upscale.model.config import GeneratorConfig
from upscale.model.weights import ModelFiles

HALF = GeneratorConfig(unshuffle=2, channels=32, body=3)
FULL = GeneratorConfig(unshuffle=1, channels=16, body=3)
TINY = GeneratorConfig(unshuffle=2, channels=4, body=0)


def random_weights(config: GeneratorConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """He-initialised layers, the last one small, as in a trained network: output near the anchor."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    for i, (inputs, outputs) in enumerate(config.layers):
        last = i == len(config.layers) - 1
        spread = (2 / (9 * inputs)) ** 0.5 * (0.1 if last else 1)
        weights[f"convs.{i}.weight"] = rng.normal(0, spread, (outputs, inputs, 3, 3)).astype(np.float32)
        weights[f"convs.{i}.bias"] = rng.normal(0, 0.02, outputs).astype(np.float32)
    return weights


def random_network(config: GeneratorConfig, seed: int = 0) -> Network:
    """`random_weights` as the writers of `upscale.export` take them."""
    return Network("random", config, conv_weights(config, random_weights(config, seed)), "0" * 64)


def write_model(
    folder: Path,
    config: GeneratorConfig = HALF,
    seed: int = 0,
    weights: dict[str, np.ndarray] | None = None,
) -> ModelFiles:
    """The same network, `weights` or a random one, as safetensors, ONNX and TFLite."""
    weights = weights or random_weights(config, seed)
    paths = {kind: folder / f"net.{kind}" for kind in ("safetensors", "onnx", "tflite")}
    save_file(weights, paths["safetensors"], metadata={"config": config.to_json()})
    paths["onnx"].write_bytes(build_onnx(config, weights, {"name": "net"}).SerializeToString())
    paths["tflite"].write_bytes(build_tflite(config, weights, {"name": "net"}))
    return ModelFiles("net", config, **paths, sha256={kind: f"{kind}{seed}" for kind in paths})


def real_luma(clip: Path, number: int = 20) -> np.ndarray:
    """(H, W) uint8: the luma of one decoded frame, rows strided as the decoder leaves them."""
    with av.open(str(clip)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i == number:
                plane = frame.planes[0]
                rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
                return rows.copy()[: frame.height, : frame.width]
    raise AssertionError(f"{clip} has no frame {number}")


def torch_output(config: GeneratorConfig, pictures: np.ndarray) -> np.ndarray:
    """(N, 1, H, W) → (N, 1, 2H, 2W) by the torch module with `random_weights`."""
    import torch

    from upscale.model.generator import Generator

    network = Generator(config)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in random_weights(config).items()})
    with torch.inference_mode():
        return network(torch.from_numpy(pictures)).numpy()
