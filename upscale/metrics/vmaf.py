"""VMAF and VMAF-NEG (Netflix, 2016 and 2020), measured by the ffmpeg of the extra ``vmaf``.

libvmaf is in no Python package; the PyPI package imageio-ffmpeg carries an ffmpeg binary that has it.
Only this measuring tool starts another process: nothing that upscales does.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from upscale.errors import BackendError
from upscale.system.closing import Closing

Luma = npt.NDArray[np.uint8]

_MODELS = r"version=vmaf_v0.6.1\:name=vmaf|version=vmaf_v0.6.1neg\:name=neg"
_LOG = "log.json"


@dataclass(frozen=True, slots=True)
class Vmaf:
    """Means over the frames, about 0…100; NEG ("no enhancement gain") does not reward sharpening."""

    vmaf: float
    neg: float


def ffmpeg_with_vmaf() -> str:
    """The ffmpeg binary of the extra.

    Raises:
        BackendError: the extra is not installed, or its ffmpeg has no libvmaf on this platform.
    """
    try:
        import imageio_ffmpeg
    except ImportError as e:
        raise BackendError("VMAF needs its extra: pip install '.[vmaf]'") from e
    try:
        binary = str(imageio_ffmpeg.get_ffmpeg_exe())
        command = [binary, "-hide_banner", "-filters"]
        filters = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    except (RuntimeError, OSError, subprocess.CalledProcessError) as e:
        raise BackendError("the ffmpeg of imageio-ffmpeg does not run here: no VMAF") from e
    if b" libvmaf " not in filters:
        raise BackendError("the ffmpeg of imageio-ffmpeg has no libvmaf on this platform")
    return binary


class VmafMeter(Closing):
    """Compares videos with one original; a context manager that keeps the original in a temporary file."""

    def __init__(self, references: Sequence[Luma]) -> None:
        """
        Args:
            references: (H, W) uint8 luma planes of consecutive frames; VMAF ignores colour.

        Raises:
            BackendError: see `ffmpeg_with_vmaf`.
        """
        self._binary = ffmpeg_with_vmaf()
        self._shape = references[0].shape
        self._frames = len(references)
        self._folder = tempfile.TemporaryDirectory(prefix="upscale-vmaf-")
        try:
            with Path(self._folder.name, "reference.y4m").open("wb") as file:
                _write_y4m(file, references)
        except BaseException:
            self.close()
            raise

    def __call__(self, pictures: Sequence[Luma]) -> Vmaf:
        """Score as many pictures of the same size.

        Raises:
            BackendError: ffmpeg failed, e.g. because the frames are too small for libvmaf.
        """
        if len(pictures) != self._frames or pictures[0].shape != self._shape:
            raise ValueError(f"{len(pictures)} pictures {pictures[0].shape} for {self._frames} {self._shape}")
        graph = f"libvmaf=model='{_MODELS}':log_fmt=json:log_path={_LOG}:n_threads={os.cpu_count() or 1}"
        command = [self._binary, "-hide_banner", "-nostats", "-v", "error", "-i", "pipe:0"]
        command += ["-i", "reference.y4m", "-lavfi", graph, "-f", "null", "-"]
        log = Path(self._folder.name, _LOG)
        log.unlink(missing_ok=True)
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command,
                cwd=self._folder.name,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            _feed(process, pictures)
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
        try:
            pooled = json.loads(log.read_text())["pooled_metrics"]
            return Vmaf(pooled["vmaf"]["mean"], pooled["neg"]["mean"])
        except (OSError, ValueError, KeyError) as e:
            raise BackendError(f"VMAF failed: {said[-1] if said else 'ffmpeg wrote no scores'}") from e

    def close(self) -> None:
        self._folder.cleanup()


def _feed(process: subprocess.Popen[bytes], pictures: Sequence[Luma]) -> None:
    """Write the pictures to the process and wait for it; kill it if this thread is stopped meanwhile."""
    assert process.stdin is not None
    try:
        try:
            _write_y4m(process.stdin, pictures)
            process.stdin.close()
        except (BrokenPipeError, OSError):
            pass  # it stopped reading: what it said about that is reported
        process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise


def _write_y4m(file: IO[bytes], planes: Iterable[Luma]) -> None:
    """Luma as 4:2:0 with gray chroma: libvmaf takes no pictures without chroma, but ignores it."""
    chroma = b""
    for plane in planes:
        height, width = plane.shape
        if not chroma:
            file.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode())
            chroma = bytes([128]) * (2 * -(-width // 2) * -(-height // 2))
        file.write(b"FRAME\n")
        file.write(np.ascontiguousarray(plane).data)
        file.write(chroma)
