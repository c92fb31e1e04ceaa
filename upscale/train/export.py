"""From a checkpoint to the files that every runtime reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save as to_bytes

from upscale.errors import TrainError
from upscale.export.onnx import build_onnx
from upscale.export.onnx_int8 import build_onnx_int8
from upscale.export.parity import Parity, check_exports
from upscale.export.quantize import quantize
from upscale.export.tflite import build_tflite
from upscale.export.tflite_int8 import build_tflite_int8
from upscale.model.weights import SUFFIXES, ModelFiles, file_hash
from upscale.system.safe_file import write_whole
from upscale.train import checkpoint, dataset
from upscale.train.loop import load_network

#: Degraded held-out crops that set the ranges of the int8 files, stitched into larger pictures.
CALIBRATION = 16


@dataclass(frozen=True, slots=True)
class Exported:
    """What one export wrote.

    Attributes:
        metadata: step, settings, seconds and best score of the training.
        parity: how far the runtimes are from torch.
    """

    files: ModelFiles
    metadata: dict[str, Any]
    parity: Parity


def export(path: Path, prefix: Path, cache: Path) -> Exported:
    """Write PREFIX.safetensors, .onnx, .tflite, _int8.tflite and _int8.onnx from a checkpoint.

    Args:
        prefix: path without suffix; its folder is made.
        cache: crops, for the ranges of the int8 files.

    Raises:
        TrainError: the checkpoint is damaged.
        ModelError, BackendError: an exporter's package is missing or failed, or the runtimes disagree.
    """
    network, metadata = load_network(path).fold(), checkpoint.read_metadata(path)
    config = network.config
    prefix.parent.mkdir(parents=True, exist_ok=True)
    paths = {kind: prefix.with_name(prefix.name + suffix) for kind, suffix in SUFFIXES.items()}
    tensors = {k: v.contiguous() for k, v in network.state_dict().items()}
    training = metadata["config"] | {"stage": metadata["stage"], "step": metadata["step"]}
    header = {"config": config.to_json(), "training": json.dumps(training)}
    write_whole(paths["safetensors"], to_bytes(tensors, metadata=header))
    arrays = {k: v.numpy() for k, v in tensors.items()}
    paths["onnx"].write_bytes(build_onnx(config, arrays, header).SerializeToString())
    paths["tflite"].write_bytes(build_tflite(config, arrays, header))
    pictures = calibration_pictures(cache)
    integers = quantize(config, arrays, pictures)
    paths["tflite_int8"].write_bytes(build_tflite_int8(integers, header))
    paths["onnx_int8"].write_bytes(build_onnx_int8(integers, header).SerializeToString())
    hashes = {kind: file_hash(p) for kind, p in paths.items()}
    files = ModelFiles(prefix.name, config, sha256=hashes, **paths)  # type: ignore[arg-type]
    return Exported(files, metadata, check_exports(files, pictures))


def calibration_pictures(cache: Path) -> list[np.ndarray]:
    """Real degraded luma, (H, W) uint8: held-out crops of every degradation, four to a picture."""
    material = dataset.load(cache)
    held_out, versions = material.held_out, len(material.versions)
    if len(held_out) < 4:
        raise TrainError("too few held-out crops to calibrate the int8 files")
    chosen = np.linspace(0, len(held_out) - 4, CALIBRATION).astype(int)
    pictures = []
    for index, at in enumerate(chosen):
        four = held_out["degraded"][at : at + 4, index % versions]
        pictures.append(np.concatenate([np.concatenate(four[:2], 1), np.concatenate(four[2:], 1)], 0))
    return pictures
