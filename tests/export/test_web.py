"""The page: its text everywhere; its pictures and its controls in a real headless Chromium."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from upscale.backends import load
from upscale.export.check import CannotRun, check, chromium, difference
from upscale.export.formats import ExportOptions, export
from upscale.export.tensors import packed, read_network
from upscale.export.web import web_core
from upscale.model.weights import find_model


def model_of(text: str) -> dict[str, Any]:
    found = re.search(r"const model = (\{.*\});", text)
    assert found
    return json.loads(found[1])


def test_the_page_is_one_file_that_asks_nobody_for_anything(tmp_path: Path) -> None:
    page = export("fast", tmp_path / "a.html").files[0].read_text(encoding="utf-8")
    for word in ("http:", "https:", "<link", "@import", "src=", "fetch(", "import("):
        assert word not in page
    assert "SHA-256 " + find_model("fast").sha256["safetensors"] in page
    assert "licence: MIT" in page


def test_the_page_holds_the_weights_and_both_ends_of_a_pair(tmp_path: Path) -> None:
    network = read_network(find_model("gan"))
    page = (
        export("gan", tmp_path / "a.html", ExportOptions(strength=0.25)).files[0].read_text(encoding="utf-8")
    )
    model = model_of(page)
    assert model["layers"] == [[1, 8], [8, 8], [8, 8], [8, 8], [8, 4]]
    assert model["strength"] == 0.25
    own, fidelity = (np.frombuffer(base64.b64decode(end), "<f4") for end in model["ends"])
    assert np.array_equal(own, np.concatenate([packed(layer).ravel() for layer in network.layers]))
    assert len(fidelity) == len(own)
    assert model["sha256"][1] == find_model("fidelity").sha256["safetensors"]
    assert len(model_of(web_core(network))["ends"]) == 1


def test_every_control_has_a_name_that_is_read_out(tmp_path: Path) -> None:
    page = export("fast", tmp_path / "a.html").files[0].read_text(encoding="utf-8")
    body = page[page.index("<body>") :]
    for tag in re.findall(r"<input[^>]*>", body):
        identity = re.search(r'id="(\w+)"', tag)
        assert identity
        label = re.search(rf"<label[^>]*>(?:(?!</label>).)*?{re.escape(tag)}", body, re.DOTALL)
        assert label, f"{identity[1]} has no label"
        assert re.sub(r"<[^>]*>", "", label[0]).strip(), f"the label of {identity[1]} is empty"
    for tag in ("video", "canvas", "main", "form"):
        assert re.search(rf"<{tag}[^>]*aria-label=", body)
    assert 'role="alert"' in body


# -- in the browser ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Iterator[Path]:
    """A folder with the page of `fast`, its core, and clips: real ones, small, as browsers play them."""
    folder = tmp_path_factory.mktemp("site")
    export("fast", folder / "player.html")
    export("gan", folder / "gan.html")
    export("fast", folder / "core.js")
    write_small(samples / "face_360p.mp4", folder / "clip.mp4")
    return folder


def write_small(clip: Path, path: Path, size: tuple[int, int] = (160, 90)) -> None:
    """A crop of 24 frames, in H.264 with BT.709 tags."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=12, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
        for n, frame in enumerate(source.decode(video=0)):
            if n == 24:
                break
            array = frame.to_ndarray(format="yuv420p")
            h, w = frame.height, frame.width
            luma = array[:h][90:180, 200:360]
            chroma = [
                array[h + i * h // 4 : h + (i + 1) * h // 4].reshape(h // 2, w // 2)[45:90, 100:180]
                for i in (0, 1)
            ]
            cut = av.VideoFrame(*size, "yuv420p")
            for plane, part in zip(cut.planes, [luma, *chroma], strict=True):
                rows = np.zeros((plane.height, plane.line_size), np.uint8)
                rows[:, : plane.width] = part
                plane.update(rows.tobytes())
            out.mux(stream.encode(cut))
        out.mux(stream.encode(None))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="no Python package selenium")
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("no chromedriver")
    try:
        program, *flags = chromium(str(tmp_path_factory.mktemp("chromium")))
    except CannotRun as e:
        pytest.skip(str(e))
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for each in [*flags, "--autoplay-policy=no-user-gesture-required", "--window-size=900,700"]:
        options.add_argument(each)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.set_script_timeout(120)
    yield chrome
    chrome.quit()


#: Waits until `condition` of the page is true.
_WAIT = """
const done = arguments[arguments.length - 1], begin = Date.now();
(function look() {
  let found; try { found = CONDITION; } catch (e) { found = false; }
  if (found || Date.now() - begin > 60000) done(Boolean(found)); else setTimeout(look, 50);
})();"""


def wait(browser: Any, condition: str) -> None:
    assert browser.execute_async_script(_WAIT.replace("CONDITION", condition)), condition


#: Stops on a frame; answers with its exact luma and with the network's.
_PLANES = """
const done = arguments[arguments.length - 1];
(async () => {
  video.pause();
  upscaler.render(); upscaler.render();
  const frame = new VideoFrame(video), size = frame.visibleRect;
  const data = new Uint8Array(frame.allocationSize()), layout = await frame.copyTo(data);
  const encode = (bytes) => btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""));
  done([frame.format, size.width, size.height, layout[0].offset, layout[0].stride, encode(data),
        encode(upscaler.luma()), upscaler.matrix]);
})().catch((e) => done(String(e)));"""


def planes(browser: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """Luma of the paused frame as decoded, the network's, and the matrix that the page takes it to have."""
    answer = browser.execute_async_script(_PLANES)
    assert isinstance(answer, list), answer
    kind, width, height, offset, stride, data, codes, matrix = answer
    assert kind in ("I420", "NV12")
    rows = np.frombuffer(base64.b64decode(data), np.uint8)[offset : offset + stride * height]
    luma = rows.reshape(height, stride)[:, :width]
    return luma, np.frombuffer(base64.b64decode(codes), np.uint8).reshape(2 * height, 2 * width), matrix


def open_file(browser: Any, page: str, clip: Path) -> None:
    browser.get(page)
    browser.find_element("id", "file").send_keys(str(clip))
    wait(browser, "upscaler.frames > 1")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", ["player.html", "gan.html"])
def test_a_real_clip_plays_as_onnxruntime_enlarges_it(page: str, browser: Any, site: Path) -> None:
    """From a file: address, as somebody who has only the page opens it."""
    open_file(browser, (site / page).as_uri(), site / "clip.mp4")
    luma, got, matrix = planes(browser)
    assert matrix == "bt709"
    name = "gan" if page == "gan.html" else "fast"
    with load("onnx", find_model(name), precision="fp32") as backend:
        expected = backend(luma)
    found = difference("Chromium", expected, got)
    # What is left is Chromium's way over 8-bit RGB, which clips saturated colours: up to 12 codes there.
    assert found.exact > 0.98
    assert found.mean < 0.06
    assert (np.abs(expected.astype(int) - got) > 1).mean() < 0.003


_PIXELS = """
const gl = document.getElementById("canvas").getContext("webgl2");
const size = [gl.drawingBufferWidth, gl.drawingBufferHeight];
upscaler.draw();
const pixels = new Uint8Array(4 * size[0] * size[1]);
gl.readPixels(0, 0, ...size, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
return [...size, btoa(Array.from(pixels, (b) => String.fromCharCode(b)).join(""))];"""


def canvas(browser: Any) -> np.ndarray:
    """(H, W, 3) uint8, as the page shows it."""
    width, height, data = browser.execute_script(_PIXELS)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[::-1, :, :3]


def set_slider(browser: Any, name: str, value: float) -> None:
    browser.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event('input', { bubbles: true }));", name, value,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sliders_move_between_bilinear_and_network(browser: Any, site: Path, tmp_path: Path) -> None:
    open_file(browser, (site / "gan.html").as_uri(), site / "clip.mp4")
    _, codes, _ = planes(browser)
    set_slider(browser, "split", 0)
    network = canvas(browser)
    set_slider(browser, "split", 100)
    bilinear = canvas(browser)
    assert network.shape == bilinear.shape == (180, 320, 3)
    weights = np.array([0.2126, 0.7152, 0.0722])
    shown = 16 + 219 / 255 * (network @ weights)
    inside = ((network > 0) & (network < 255)).all(axis=2)
    assert np.abs(shown - codes)[inside].mean() < 0.5, "what is shown has the network's luma"
    assert np.abs(network.astype(int) - bilinear).mean() > 0.3
    set_slider(browser, "split", 50)
    half = canvas(browser)
    assert np.array_equal(half[:, :160], bilinear[:, :160])
    assert np.array_equal(half[:, 160:], network[:, 160:])
    assert browser.find_element("id", "splitshown").text == "50 %"
    browser.save_screenshot(str(tmp_path / "page.png"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_strength_blends_the_weights(browser: Any, site: Path) -> None:
    open_file(browser, (site / "gan.html").as_uri(), site / "clip.mp4")
    luma, _, _ = planes(browser)
    for strength in (0, 0.5):
        set_slider(browser, "strength", strength)
        _, got, _ = planes(browser)
        with load("onnx", find_model("gan", strength), precision="fp32") as backend:
            assert difference("Chromium", backend(luma), got).exact > 0.98


_DROP = """
const done = arguments[arguments.length - 1];
(async () => {
  const data = await (await fetch(arguments[0])).blob();
  const transfer = new DataTransfer();
  transfer.items.add(new File([data], "clip.mp4", { type: "video/mp4" }));
  for (const name of ["dragover", "drop"])
    document.getElementById("stage").dispatchEvent(
      new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  done(true);
})().catch((e) => done(String(e)));"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_dropped_file_plays_and_keys_work(browser: Any, site: Path) -> None:
    with served(site) as address:
        browser.get(f"{address}/player.html")
        assert browser.execute_async_script(_DROP, "clip.mp4") is True
        wait(browser, "upscaler.frames > 1")
    assert "160×90 → 320×180" in browser.find_element("id", "sizes").text
    body = browser.find_element("tag name", "body")
    playing = browser.execute_script("return !video.paused")
    body.send_keys(" ")
    assert browser.execute_script("return !video.paused") is not playing
    body.send_keys("\ue012")  # left
    assert browser.find_element("id", "splitshown").text == "48 %"
    name = browser.find_element("id", "split").accessible_name
    assert "Bilinear up to" in name
    assert browser.find_element("id", "play").aria_role == "button"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("HTMLCanvasElement.prototype.getContext = () => null;", "it has no WebGL 2"),
        (
            "WebGL2RenderingContext.prototype.getExtension = () => null;",
            "its WebGL 2 cannot draw into textures of floats",
        ),
    ],
)
def test_a_browser_that_cannot_says_so_and_plays_the_video(
    lacking: str, message: str, browser: Any, site: Path
) -> None:
    text = (site / "player.html").read_text(encoding="utf-8")
    (site / "old.html").write_text(
        text.replace("<body>", f"<body><script>{lacking}</script>"), encoding="utf-8"
    )
    browser.get((site / "old.html").as_uri())
    assert message in browser.find_element("id", "message").text
    browser.find_element("id", "file").send_keys(str(site / "clip.mp4"))
    wait(browser, "video.currentTime > 0.2")
    assert browser.find_element("id", "video").is_displayed()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_file_that_is_no_video_is_said_to_be_none(browser: Any, site: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("not a video")
    browser.get((site / "player.html").as_uri())
    browser.find_element("id", "file").send_keys(str(tmp_path / "a.mp4"))
    wait(browser, "document.getElementById('message').textContent.includes('cannot play this file')")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_other_pages_can_embed_the_core(browser: Any, site: Path) -> None:
    (site / "own.html").write_text(
        "<!doctype html><video id=video src=clip.mp4 muted autoplay loop></video><canvas id=canvas></canvas>"
        "<script src=core.js></script><script>const upscaler = upscale.attach(video, canvas);</script>"
    )
    with served(site) as address:
        browser.get(f"{address}/own.html")
        wait(browser, "upscaler.frames > 2")
        assert browser.execute_script("return [canvas.width, canvas.height]") == [320, 180]
        frames = browser.execute_script("upscaler.detach(); return upscaler.frames")
        wait(browser, "video.currentTime > 0")
        assert browser.execute_script("return upscaler.frames") == frames


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["a.html", "a.js"])
def test_check_runs_the_page_without_a_driver(name: str, tmp_path: Path) -> None:
    try:
        found = check(export("fast", tmp_path / name))
    except CannotRun as e:
        pytest.skip(str(e))
    assert all(each.passed and each.exact > 0.98 for each in found)
