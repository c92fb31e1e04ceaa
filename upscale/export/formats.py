"""`export`: one model as a file for another program.

The runtimes' own formats are copied, blended or written; those of players, pages and ncnn are always
written from the weights. `upscale.export.check` runs what this machine can run of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from upscale.backends.onnx_file import blend_onnx, read_onnx
from upscale.backends.tflite_blend import blend_tflite
from upscale.errors import ModelError, UsageError
from upscale.export.mpv import mpv_shader
from upscale.export.ncnn import ncnn_files
from upscale.export.tensors import Network, read_network
from upscale.export.web import web_core, web_page
from upscale.model.blend import blended
from upscale.model.weights import SUFFIXES, ModelFiles, bundled, find_model
from upscale.system.safe_file import check_output, write_whole


@dataclass(frozen=True, slots=True)
class Format:
    """Attributes:
    suffixes: what its files' names end in, the default first.
    summary: for the list of formats.
    precisions: which of its files there are.
    """

    suffixes: tuple[str, ...]
    summary: str
    precisions: tuple[str, ...] = ("fp32",)


FORMATS = {
    "mpv": Format((".glsl", ".hook"), "shader for mpv, IINA, VLC 4, Jellyfin and FFmpeg's libplacebo filter"),
    "web": Format((".html", ".js"), "a page that plays videos enlarged (WebGL 2); .js: its core, to embed"),
    "ncnn": Format((".param",), "ncnn's two files, .param and .bin: Vulkan on Android"),
    "onnx": Format((".onnx",), "ONNX: onnxruntime, Core ML, OpenVINO, DirectML, TensorRT", ("fp32", "int8")),
    "tflite": Format((".tflite",), "TFLite: LiteRT on phones and boards", ("fp32", "int8")),
}


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Attributes:
    format: one of `FORMATS`; None is the one that the output's name ends like.
    strength: 0…1, as of `upscale.model.weights.find_model`; of a page it is where the slider begins.
    precision: "fp32" or "int8"; only onnx and tflite have both.
    portable: mpv: fragment passes, for OpenGL ES and vo=gpu.
    overwrite: replace files that have the names.
    """

    format: str | None = None
    strength: float | None = None
    precision: str = "fp32"
    portable: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """Attributes:
    files: what was written, the one that was named first; ncnn's are two.
    format: one of `FORMATS`.
    model: what they were made of.
    """

    files: list[Path]
    format: str
    model: ModelFiles


def export(
    model: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    options: ExportOptions | None = None,
) -> Exported:
    """Write one model in one format.

    Args:
        model: a bundled model's name or a weights file; None is the default model.
        output: the file, or a directory to put the default name into; None is the default name
            (NAME.glsl, NAME_int8.onnx, …) in the current directory.

    Raises:
        UsageError: no such model, format or precision; the model has too many channels for the format, or
            is no .safetensors file where one is needed; an output exists.
        ModelError: the model is damaged, or is no generator of this project.
        BackendError: writing TFLite or ONNX from weights takes packages that are not installed.
        OutputError: the output cannot be written.
    """
    options = options or ExportOptions()
    named = None if output is None or os.path.isdir(output) else Path(output)
    options = _checked(options, named)
    assert options.format is not None
    name = None if model is None else os.fspath(model)
    found = find_model(name, options.strength)
    path = named or Path(output or "") / default_name(found, options)
    # Pages hold both ends of a pair, whatever the strength is.
    files = _contents(find_model(name) if options.format == "web" else found, path, options)
    source = next(str(p) for kind in SUFFIXES if (p := found.path(kind)) is not None)
    for each in files:
        check_output(source, str(each), options.overwrite)
    for each in reversed(files):  # what was named appears last, when the rest is there
        write_whole(each, files[each], overwrite=options.overwrite)
    return Exported(list(files), options.format, found)


def default_name(model: ModelFiles, options: ExportOptions) -> str:
    """NAME, then the strength if it was asked for, "_portable" or "_int8", and the format's suffix."""
    parts = [model.name]
    if options.strength is not None and options.format != "web":
        parts.append(f"strength{options.strength:g}")
    parts += ["portable"] if options.portable else []
    parts += ["int8"] if options.precision == "int8" else []
    return "_".join(parts) + FORMATS[options.format or "mpv"].suffixes[0]


def _checked(options: ExportOptions, output: Path | None) -> ExportOptions:
    """The options with their format, once they fit each other."""
    kinds = ", ".join(FORMATS)
    name = options.format
    if name is None:
        ending = output.suffix.lower() if output else ""
        name = next((n for n, f in FORMATS.items() if ending in f.suffixes), None)
        if name is None:
            raise UsageError(f"which format? --format takes one of {kinds}")
    if name not in FORMATS:
        raise UsageError(f"no format {name!r}; there are {kinds}")
    if output is not None and output.suffix.lower() not in FORMATS[name].suffixes:
        expected = " or ".join(FORMATS[name].suffixes)
        raise UsageError(f"a file of format {name} ends in {expected}", path=str(output))
    if options.precision not in FORMATS[name].precisions:
        there = " and ".join(FORMATS[name].precisions)
        raise UsageError(f"no precision {options.precision!r} in format {name}; there is {there}")
    if options.portable and name != "mpv":
        raise UsageError("only format mpv has a portable form")
    return replace(options, format=name)


def _contents(model: ModelFiles, path: Path, options: ExportOptions) -> dict[Path, str | bytes]:
    """What to write, by path; the path that was asked for is the first."""
    if options.format in ("onnx", "tflite"):
        return {path: _runtime_file(model, options.format, options.precision)}
    if options.format == "web":
        return {path: _web(model, path, 1.0 if options.strength is None else options.strength)}
    network = read_network(model)
    if options.format == "ncnn":
        param, data = ncnn_files(network)
        return {path: param, path.with_suffix(".bin"): data}
    try:
        return {path: mpv_shader(network, portable=options.portable, licence=_licence(model))}
    except UsageError as e:
        raise UsageError(str(e), path=str(model.safetensors)) from e


def _web(model: ModelFiles, path: Path, strength: float) -> str:
    fidelity = None if model.fidelity is None else read_network(find_model(model.fidelity))
    write = web_core if path.suffix.lower() == ".js" else web_page
    return write(read_network(model), fidelity, strength, _licence(model))


def _licence(model: ModelFiles) -> str:
    return "MIT, as upscale" if model.name in bundled() else "that of the weights"


def _runtime_file(model: ModelFiles, name: str, precision: str) -> bytes:
    """The bytes of the file that there is, blended where that was asked for, or one made of the weights."""
    kind = name if precision == "fp32" else f"{name}_int8"
    path = model.path(kind)
    if path is not None and (model.partner is None or model.partner.path(kind) is not None):
        if name == "onnx":
            data = blended(model, kind, blend_onnx, read_onnx)
        else:
            data = blended(model, kind, blend_tflite)
        try:
            return data if data is not None else path.read_bytes()
        except OSError as e:
            raise ModelError(e.strerror or str(e), path=str(path)) from e
    if precision == "int8":
        raise UsageError(
            "there is no int8 file of it, and making one takes pictures: upscale train", path=model.name
        )
    return _made(read_network(model), name)


def _made(network: Network, name: str) -> bytes:
    from upscale.export.onnx import build_onnx
    from upscale.export.tflite import build_tflite

    parts = zip(("weight", "bias"), zip(*network.layers, strict=True), strict=True)
    weights = {f"convs.{i}.{part}": array for part, arrays in parts for i, array in enumerate(arrays)}
    if name == "tflite":
        return build_tflite(network.config, weights, {})
    return build_onnx(network.config, weights, {}).SerializeToString()
