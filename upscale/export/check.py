"""`check`: run an exported file in what this machine has for it, and compare its pictures with numpy's.

mpv: FFmpeg's filter libplacebo (`ffmpeg` with a Vulkan driver; Mesa's lavapipe is enough). web: headless
Chromium. ncnn, onnx, tflite: their Python packages. What is not there is said, not taken for a pass.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscale.errors import BackendError, first_line
from upscale.export.formats import Exported
from upscale.export.tensors import luma_network, read_network

#: What an exported file may differ by: code values of 8 bits, and their mean.
MAX_DIFFERENCE, MAX_MEAN = 1, 0.06
#: Seconds for one picture: software renderers compile the portable form for a minute.
_PATIENCE = 300

Codes = npt.NDArray[np.uint8]
Runner = Callable[[Path, Codes], Codes]


class CannotRun(Exception):
    """This machine lacks what runs the file; the message says what."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Attributes:
    runtime: what ran the file.
    size: width and height of the picture.
    largest: difference, in code values.
    mean: difference, in code values.
    exact: share of the pixels that are equal, 0…1.
    """

    runtime: str
    size: tuple[int, int]
    largest: int
    mean: float
    exact: float

    @property
    def passed(self) -> bool:
        return self.largest <= MAX_DIFFERENCE and self.mean <= MAX_MEAN


def check(exported: Exported) -> list[Difference]:
    """Run an exported file on two small pictures, one of them with odd sides.

    Raises:
        CannotRun: nothing here runs such files, or there are no weights to compare with.
        BackendError: what runs them failed.
    """
    path = exported.files[0]
    if exported.model.safetensors is None:
        raise CannotRun("no .safetensors file to compare it with")
    network = read_network(exported.model)
    runtime, run = RUNNERS[exported.format]
    found = []
    for width, height in ((160, 90), (61, 43)):
        luma = picture(width, height)
        ours = codes(luma_network(network, luma.astype(np.float32) / np.float32(255)))
        theirs = run(path, luma)
        if theirs.shape != ours.shape:
            raise BackendError(f"{runtime} made {theirs.shape} of {luma.shape}", path=str(path))
        found.append(difference(runtime, ours, theirs))
    return found


def difference(runtime: str, ours: Codes, theirs: Codes) -> Difference:
    """Compare two pictures of twice the size."""
    distance = np.abs(ours.astype(np.int32) - theirs)
    height, width = ours.shape
    size = width // 2, height // 2
    return Difference(
        runtime, size, int(distance.max()), float(distance.mean()), float((distance == 0).mean())
    )


def picture(width: int, height: int) -> Codes:
    """(H, W) uint8: waves, edges and a little noise, up to every border."""
    y, x = np.mgrid[:height, :width]
    waves = 90 + 40 * np.sin(x * x / 400) * np.cos(y / 5) + 30 * ((x // 9 + y // 7) % 2)
    noise = np.random.default_rng(1).normal(0, 2, waves.shape)
    return np.clip(waves + noise, 16, 235).astype(np.uint8)


def codes(output: npt.NDArray[np.float32]) -> Codes:
    """A network's output as 8-bit code values: rounded, clipped."""
    return np.clip(np.rint(output * 255), 0, 255).astype(np.uint8)


def run_in_libplacebo(shader: Path, luma: Codes) -> Codes:
    """(H, W) → (2H, 2W) uint8, through `ffmpeg` and the first Vulkan device; lavapipe if Mesa has it."""
    ffmpeg = _program("ffmpeg")
    if b" libplacebo " not in _output([ffmpeg, "-hide_banner", "-filters"]):
        raise CannotRun("ffmpeg without the libplacebo filter")
    height, width = luma.shape
    with tempfile.TemporaryDirectory() as folder:
        # The filter's options have no way to quote every name: the shader gets a plain one.
        shutil.copy(shader, os.path.join(folder, "shader.glsl"))
        # Without range=pc, gray counts as limited and is stretched on the way.
        filters = (
            f"format=gray,setparams=range=pc,hwupload,libplacebo=w={2 * width}:h={2 * height}:upscaler=none:"
            "downscaler=none:dithering=none:peak_detect=0:custom_shader_path=shader.glsl:format=gray:"
            "colorspace=bt709:range=pc,hwdownload,format=gray"
        )
        command = [
            ffmpeg, "-v", "error", "-init_hw_device", "vulkan=vk:0", "-f", "rawvideo", "-pix_fmt", "gray",
            "-s", f"{width}x{height}", "-i", "-", "-vf", filters, "-frames:v", "1", "-f", "rawvideo", "-",
        ]  # fmt: skip
        result = _run(command, folder, luma.tobytes(), _software_vulkan())
    complaint = result.stderr.decode(errors="replace")
    if "Failed to create" in complaint or "No VK" in complaint or "Instance creation failure" in complaint:
        raise CannotRun("no Vulkan driver (Mesa's lavapipe is enough)")
    if result.returncode or complaint:
        raise BackendError(f"libplacebo refuses the shader: {complaint.partition(chr(10))[0]}")
    return np.frombuffer(result.stdout, np.uint8).reshape(2 * height, 2 * width)


def _software_vulkan() -> dict[str, str]:
    """What makes Vulkan take Mesa's lavapipe, if it is there: a GPU's driver may need a screen."""
    found = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    return {"VK_DRIVER_FILES": str(found[0]), "VK_ICD_FILENAMES": str(found[0])} if found else {}


#: Draws gray pictures as the page draws a video: the network's luma of each is left in the document.
_IN_PAGE = """
<canvas id="stand-in"></canvas><pre id="codes"></pre><script>
try {
  const { width, height, gray } = PICTURE;
  const source = document.getElementById("stand-in"), bytes = atob(gray);
  source.width = width; source.height = height;
  // RGB of limited range, such that its luma is the code value again.
  const pixels = new Uint8ClampedArray(4 * width * height);
  for (let i = 0; i < bytes.length; i++)
    pixels.set([...Array(3).fill((bytes.charCodeAt(i) - 16) * 255 / 219), 255], 4 * i);
  source.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  Object.assign(source, { videoWidth: width, videoHeight: height, readyState: 2 });
  const upscaler = upscale.attach(source, document.createElement("canvas"));
  if (!upscaler.render()) throw new Error("nothing was drawn");
  document.getElementById("codes").textContent =
    btoa(Array.from(upscaler.luma(), (code) => String.fromCharCode(code)).join(""));
} catch (error) { document.getElementById("codes").textContent = "error: " + error.message; }
</script>
"""


def run_in_chromium(page: Path, luma: Codes) -> Codes:
    """(H, W) → (2H, 2W) uint8, through headless Chromium and the page's own core (.html or .js)."""
    height, width = luma.shape
    given = {"width": width, "height": height, "gray": base64.b64encode(luma.tobytes()).decode()}
    text = page.read_text(encoding="utf-8")
    if page.suffix.lower() == ".js":
        text = f"<!doctype html><body><script>{text}</script></body>"
    script = _IN_PAGE.replace("PICTURE", json.dumps(given))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "page.html").write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
        command = [*chromium(folder), "--dump-dom", Path(folder, "page.html").as_uri()]
        result = _run(command, folder, b"", {})
    document = result.stdout.decode(errors="replace")
    found = re.search(r'<pre id="codes">([^<]*)</pre>', document)
    answer = html.unescape(found[1]) if found else "error: no page came back"
    if not answer or answer.startswith("error:"):
        raise BackendError(f"Chromium cannot run the page: {answer.removeprefix('error: ')}")
    return np.frombuffer(base64.b64decode(answer), np.uint8).reshape(2 * height, 2 * width)


def chromium(profile: str) -> list[str]:
    """The command that starts a headless Chromium that draws without a GPU, and calls nobody.

    Args:
        profile: a new directory for its files.
    """
    program = _program("chromium", "chromium-browser", "google-chrome")
    return [
        program, "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}/profile",
    ]  # fmt: skip


def run_in_ncnn(param: Path, luma: Codes) -> Codes:
    """(H, W) → (2H, 2W) uint8, through the `ncnn` package on the processor, in float32."""
    if importlib.util.find_spec("ncnn") is None:
        raise CannotRun("no Python package ncnn")
    import ncnn  # type: ignore[import-not-found, import-untyped, unused-ignore]

    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(param)) or net.load_model(str(param.with_suffix(".bin"))):
        raise BackendError("ncnn refuses the files", path=str(param))
    height, width = luma.shape
    even = np.pad(luma, ((0, height % 2), (0, width % 2)), mode="edge").astype(np.float32) / 255
    with net.create_extractor() as extractor:
        # A Mat made from numpy only borrows its memory.
        extractor.input("luma", ncnn.Mat(even[None]).clone())
        failed, output = extractor.extract("upscaled")
    if failed:
        raise BackendError("ncnn fails on a picture", path=str(param))
    return codes(np.array(output)[0, : 2 * height, : 2 * width])


def run_in_backend(path: Path, luma: Codes) -> Codes:
    """(H, W) → (2H, 2W) uint8, through our own backend for the file's format."""
    from upscale import backends
    from upscale.model.weights import find_model

    name = path.suffix.lower()[1:]
    missing = backends.available()[name]
    if missing is not None:
        raise CannotRun(f"the {name} backend is not installed: {missing}")
    with backends.load(name, find_model(str(path)), device="cpu") as backend:
        return backend(luma).astype(np.uint8, copy=False)


#: Format → what runs its files, and how.
RUNNERS: dict[str, tuple[str, Runner]] = {
    "mpv": ("libplacebo", run_in_libplacebo),
    "web": ("Chromium", run_in_chromium),
    "ncnn": ("ncnn", run_in_ncnn),
    "onnx": ("onnxruntime", run_in_backend),
    "tflite": ("LiteRT", run_in_backend),
}


def _program(*names: str) -> str:
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise CannotRun(f"no {names[0]}")


def _output(command: list[str]) -> bytes:
    return _run(command, os.curdir, b"", {}).stdout


def _run(
    command: list[str], folder: str, given: bytes, environment: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, cwd=folder, input=given, capture_output=True, timeout=_PATIENCE,
            env={**os.environ, **environment},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as e:
        raise BackendError(f"{os.path.basename(command[0])} failed: {first_line(e)}") from e
