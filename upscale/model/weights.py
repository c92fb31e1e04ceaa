"""Finding, checking and reading weights files.

A bundled model is a line of `weights/models.json`, which holds every file's SHA-256. A user's own
model is any one file: its format, size and header are checked before a runtime sees it. Formats
that can execute code when read (pickles: .pth, .pt, .ckpt) are refused unopened.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from upscale.errors import ModelError, UsageError
from upscale.model.config import GeneratorConfig

#: File kinds of one model, in the order in which they are listed.
KINDS = ("safetensors", "onnx", "tflite", "tflite_int8", "onnx_int8")
#: What the exporter's file names end in.
SUFFIXES = {
    "safetensors": ".safetensors",
    "onnx": ".onnx",
    "tflite": ".tflite",
    "tflite_int8": "_int8.tflite",
    "onnx_int8": "_int8.onnx",
}
#: No honest model of this family comes near; larger files are refused unread.
MAX_BYTES = 64 * 2**20
PICKLES = {".pth", ".pt", ".ckpt", ".pkl", ".pickle", ".bin"}


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One model and where its files lie; a missing format is None.

    Attributes:
        config: the generator's shape, None for a foreign ONNX or TFLite file that does not say.
        sha256: of each present file, by kind.
        fidelity: name or path of the fidelity model that a GAN model can be blended with, or None.
        strength: what was asked for, 0 (the fidelity model) … 1 (the GAN model); None was not asked for.
        partner: the fidelity model, if the weights are to be blended with its own: 0 < strength < 1.
    """

    name: str
    config: GeneratorConfig | None = None
    safetensors: Path | None = None
    onnx: Path | None = None
    tflite: Path | None = None
    tflite_int8: Path | None = None
    onnx_int8: Path | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    fidelity: str | None = None
    strength: float | None = None
    partner: ModelFiles | None = None

    def path(self, kind: str) -> Path | None:
        """The file of one of `KINDS`."""
        found = getattr(self, kind)
        assert found is None or isinstance(found, Path)
        return found


def weights_folder() -> Path:
    """The folder with `models.json`: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def bundled() -> dict[str, dict[str, Any]]:
    """`models.json`, the default model first.

    {name: {"summary", "config", "files": {kind: {"name", "sha256"}}}}; a GAN model's "fidelity" names the
    model of the same shape that `--strength` blends it with.

    Raises:
        ModelError: the package was installed without its weights.
    """
    index = weights_folder() / "models.json"
    try:
        models = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ModelError(f"the bundled models cannot be read: {e}", path=str(index)) from e
    assert isinstance(models, dict)
    return models


def find_model(name_or_path: str | None = None, strength: float | None = None) -> ModelFiles:
    """A bundled model by name (None is the default one), or a user's weights file by path.

    Args:
        strength: 0…1, from the fidelity model to the GAN model of a pair (`upscale.model.blend`). A bundled
            model's partner is named in `models.json`; that of a file NAME.onnx is NAME_fidelity.onnx beside
            it, that of NAME_int8.tflite NAME_fidelity_int8.tflite. None is the model itself.

    Raises:
        UsageError: no such name or file, or a pickle; strength outside 0…1, without a partner, or with one
            of another shape.
        ModelError: damaged, altered, too large, or refers to data outside itself.
    """
    model = _find(name_or_path)
    return model if strength is None else _with_strength(model, strength)


def _with_strength(model: ModelFiles, strength: float) -> ModelFiles:
    if not 0 <= strength <= 1:
        raise UsageError(f"the strength must be from 0 to 1, not {strength:g}")
    if model.fidelity is None:
        raise UsageError(
            "a strength needs a pair of models to blend, and this one has no fidelity model beside it",
            path=model.name,
        )
    partner = _find(model.fidelity)
    if model.config != partner.config:
        raise UsageError(f"cannot be blended with {model.fidelity}: another shape", path=model.name)
    common: dict[str, Any] = {kind: model.path(kind) if partner.path(kind) else None for kind in KINDS}
    hashes = {kind: digest for kind, digest in model.sha256.items() if common[kind]}
    if not hashes:
        raise UsageError(f"cannot be blended with {model.fidelity}: no files of one kind", path=model.name)
    # The ends are files of their own, so that they stay exact.
    if strength == 0:
        ends: dict[str, Any] = {kind: partner.path(kind) for kind in KINDS}
        return replace(model, **ends, sha256=partner.sha256, strength=0.0)
    if strength == 1:
        return replace(model, strength=1.0)
    return replace(model, **common, sha256=hashes, strength=strength, partner=partner)


def _find(name_or_path: str | None) -> ModelFiles:
    models = bundled()
    if name_or_path is None:
        name_or_path = next(iter(models))
    if name_or_path in models:
        return _bundled_model(name_or_path, models[name_or_path])
    path = Path(name_or_path)
    if path.suffix.lower() in PICKLES:
        raise UsageError(
            "pickled weights can run code and are never opened; use .safetensors, .onnx or .tflite",
            path=str(path),
        )
    if not path.is_file():
        known = ", ".join(models)
        raise UsageError(f"no such model; bundled are {known}; or name a .safetensors, .onnx or .tflite file",
                         path=name_or_path)  # fmt: skip
    return _user_model(path)


def _bundled_model(name: str, entry: dict[str, Any]) -> ModelFiles:
    folder = weights_folder()
    paths: dict[str, Any] = {}
    hashes: dict[str, str] = {}
    for kind, file in entry["files"].items():
        path = folder / file["name"]
        hashes[kind] = file_hash(path)
        if hashes[kind] != file["sha256"]:
            raise ModelError("not the file that was released: its SHA-256 differs", path=str(path))
        paths[kind] = path
    config = GeneratorConfig.from_json(json.dumps(entry["config"]))
    return ModelFiles(name, config, sha256=hashes, fidelity=entry.get("fidelity"), **paths)


def _user_model(path: Path) -> ModelFiles:
    suffix = path.suffix.lower()
    digest = file_hash(path)
    partner = _partner_path(path)
    fidelity = str(partner) if partner else None
    if suffix == ".safetensors":
        config, _ = read_header(path)
        return ModelFiles(
            path.stem, config, safetensors=path, sha256={"safetensors": digest}, fidelity=fidelity
        )
    if suffix in (".onnx", ".tflite"):
        # The exporter's name tells: what is inside is only known to the runtime.
        kind = suffix[1:] + ("_int8" if path.stem.endswith("_int8") else "")
        found: dict[str, Any] = {kind: path}
        return ModelFiles(path.stem, None, sha256={kind: digest}, fidelity=fidelity, **found)
    raise UsageError("not a weights file: .safetensors, .onnx or .tflite", path=str(path))


def _partner_path(path: Path) -> Path | None:
    """The file of the same kind of the fidelity model, as `upscale train` names it, if it is there."""
    if path.resolve().parent == weights_folder().resolve():
        models = bundled()
        for entry in models.values():
            for kind, file in entry["files"].items():
                named = models.get(entry.get("fidelity", ""), {"files": {}})["files"].get(kind)
                if file["name"] == path.name and named is not None:
                    return path.with_name(named["name"])
    int8 = "_int8" if path.stem.endswith("_int8") else ""
    partner = path.with_name(f"{path.stem.removesuffix(int8)}_fidelity{int8}{path.suffix}")
    return partner if partner.is_file() else None


def file_hash(path: Path) -> str:
    """SHA-256 of a weights file, as `models.json` holds it.

    Raises:
        ModelError: unreadable, or larger than `MAX_BYTES`.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"larger than {MAX_BYTES >> 20} MB: not a model of this family", path=str(path))
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise ModelError(e.strerror or str(e), path=str(path)) from e


def read_header(path: Path) -> tuple[GeneratorConfig, dict[str, str]]:
    """Configuration and all metadata of a safetensors file, without any library.

    Raises:
        ModelError: not a safetensors file of this project.
    """
    try:
        with path.open("rb") as f:
            (length,) = struct.unpack("<Q", f.read(8))
            if length > 1 << 20:
                raise ModelError("not a safetensors file: its header is too long", path=str(path))
            metadata = json.loads(f.read(length)).get("__metadata__", {})
    except (OSError, struct.error, ValueError, AttributeError) as e:
        raise ModelError("not a safetensors file", path=str(path)) from e
    if "config" not in metadata:
        raise ModelError("a safetensors file without this project's configuration", path=str(path))
    return GeneratorConfig.from_json(metadata["config"]), metadata
