"""`upscale compare`: moments by time, crops, sheet, video, figures and refusals.

Covers job, moments, crops, video and `metrics.methods`.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import flat_frame, noise_frame, write_video
from networks import TINY, write_model
from onnx import TensorProto, helper

from upscale.cli import main
from upscale.compare import job
from upscale.compare.crops import Crop, choose_crops, parse_crop
from upscale.compare.moments import match, read_frames, read_moment
from upscale.compare.sheet import Row, make_sheet
from upscale.errors import MediaError, ModelError, UsageError
from upscale.media.pixels.planes import plane_view
from upscale.metrics.methods import load_peers


def _pattern(size: tuple[int, int], n: int) -> av.VideoFrame:
    """A moving wave that a half-size copy still holds, over a gray ground."""
    frame = flat_frame(size, (120, 110, 140))
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / size[1]
    plane_view(frame, 0)[...] = (120 + 60 * np.sin(40 * x * y + n)).astype(np.uint8)
    return frame


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """A clip of 96x64 at 25 frames/s, and its original of 192x128 with a clock of other ticks."""
    low = write_video(tmp_path / "low.mp4", range(25), size=(96, 64), picture=lambda n: _pattern((96, 64), n))
    high = write_video(
        tmp_path / "high.mkv",
        range(0, 1000, 40),
        time_base=Fraction(1, 1000),
        size=(192, 128),
        picture=lambda n: _pattern((192, 128), n),
    )
    return str(low), str(high)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_model(tmp_path, TINY).onnx)


def test_times_are_of_the_file(tmp_path: Path) -> None:
    """A part that begins between two ticks of 1/25 s was 20 ms off: the original's next frame was taken."""
    clip = write_video(
        tmp_path / "c.mp4", range(20), picture=lambda n: flat_frame((64, 48), (16 + 8 * n, 128, 128))
    )
    for time, frame in read_frames(str(clip), 0.3):
        assert round((int(plane_view(frame)[20, 20]) - 16) / 8) == round(time * 25)


def test_moment_pairs_the_same_pictures(pair: tuple[str, str]) -> None:
    moment = read_moment(*pair, 0.5, 4)
    assert moment.time == pytest.approx(0.52)
    assert len(moment.low_res) == len(moment.references) == 4
    for low, truth in zip(moment.low_res, moment.references, strict=True):
        small, large = plane_view(low).astype(int), plane_view(truth)[::2, ::2].astype(int)
        assert np.abs(small - large).mean() < 12  # the next frame is 35 away


def test_original_that_is_too_short(pair: tuple[str, str], tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.mp4", range(5), size=(192, 128))
    with pytest.raises((MediaError, UsageError)):
        read_moment(pair[0], str(short), 0.5, 4)


def test_match_leaves_out_what_has_no_partner() -> None:
    frame = flat_frame((16, 16), (1, 128, 128))
    lows = [(0.00, frame), (0.04, frame), (0.08, frame)]
    assert [t for t, _, _ in match(lows, [(0.005, frame), (0.081, frame)])] == [0.00, 0.08]


def test_crops_find_the_difference_and_do_not_overlap() -> None:
    plain = np.full((120, 200), 100, np.uint8)
    other = plain.copy()
    other[80:100, 150:180] = 140
    detailed = plain.copy()
    detailed[8:40:2, 8:60] = 200
    first, second = choose_crops([plain, other, plain, plain, detailed], (48, 32), 2)
    assert first.cut(np.abs(detailed.astype(int) - plain).astype(np.uint8)).any()
    assert not (
        second.x < first.x + 48
        and first.x < second.x + 48
        and second.y < first.y + 32
        and first.y < second.y + 32
    )
    assert choose_crops([plain, other], (48, 32), 1)[0].cut(other).max() == 140
    assert choose_crops([plain, other], (999, 999), 2) == [Crop(0, 0, 200, 120)]


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "0,0,0,9", "-8,0,20,20", ""])
def test_bad_crop(text: str) -> None:
    with pytest.raises(UsageError, match="is not a crop"):
        parse_crop(text)


def test_sheet_shows_the_crop_enlarged() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    crop = Crop(10, 20, 32, 24)
    sheet = make_sheet([Row(1.5, {"one": picture, "two": 255 - picture}, [crop])], {"one": "38.2 dB"})
    large = crop.cut(picture).repeat(10, 0).repeat(10, 1)
    column = sheet[:, 332:652]  # right of the overview and its gaps
    assert any((column[y : y + 240] == large).all() for y in range(60))


def _run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main.run(["compare", *args])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_whole_command(
    pair: tuple[str, str],
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job, "available_measures", lambda: (["psnr", "ssim", "flicker"], ["no LPIPS here"]))
    sheet, video = tmp_path / "s.png", tmp_path / "v.mp4"
    args = [pair[0], "--reference", pair[1], "-o", str(sheet), "--video", str(video), "-t", "0.4"]
    code, out, _ = _run(capsys, *args, "--models", model, "--at", "0.2", "--frames", "3", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["size"] == [192, 128]
    assert list(found["figures"]) == ["bicubic", "lanczos", "net"]
    assert found["figures"]["lanczos"]["psnr"] > found["figures"]["net"]["psnr"]  # an untrained network
    with av.open(str(sheet)) as png, av.open(str(video)) as clip:
        assert png.streams.video[0].width > 4 * 106
        assert sum(1 for _ in clip.decode(video=0)) == found["video_frames"] == 10
    code, _, err = _run(capsys, *args, "--models", model)
    assert (code, err.count("\n")) == (2, 1)
    assert "-y overwrites" in err
    code, out, err = _run(capsys, *args, "--models", model, "--at", "0.2", "--frames", "3", "-y")
    assert code == 0
    assert "PSNR-Y" in out
    assert "no LPIPS here" in err
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-o", "{dir}/x.jpg"], "must end with .png"),
        (["--video", "{dir}/x.avi"], "must end with .mp4"),
        (["--crop", "9999,0,20,20"], "leaves the result"),
        (["--at", "99"], "behind the end"),
        (["--reference", "{low}"], "is not larger"),
        (["--reference", "{square}"], "in a larger size"),
        (["--reference", "{high}", "--target", "720p"], "leave out --target"),
        (["--models", "nope"], "no such model"),
        (["--peers", "{dir}/none"], "no *.onnx"),
        (["-o", "{dir}/none/x.png"], "does not exist"),
    ],
)
def test_refusals_are_one_line(
    args: list[str],
    message: str,
    pair: tuple[str, str],
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    square = write_video(tmp_path / "square.mp4", range(3), size=(200, 200))
    names = {"dir": tmp_path, "low": pair[0], "high": pair[1], "square": square}
    rest = [] if "--models" in args else ["--models", model]
    code, out, err = _run(capsys, pair[0], *rest, *[a.format(**names) for a in args])
    assert code == 2 or (code == 1 and "does not exist" in message)
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.glob("*.png"))


def _peer(path: Path, channels: int, factor: int = 2) -> None:
    """A network that repeats each pixel, and for RGB swaps nothing: nearest neighbour."""
    entry = helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, channels, "h", "w"])
    leave = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, channels, "H", "W"])
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, factor, factor])
    node = helper.make_node("Resize", ["in", "", "scales"], ["out"], mode="nearest",
                            nearest_mode="floor", coordinate_transformation_mode="asymmetric")  # fmt: skip
    graph = helper.make_graph([node], "net", [entry], [leave], [scales])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(made.SerializeToString())


def test_peers(tmp_path: Path) -> None:
    """Public networks of luma and of RGB give the same luma where both repeat pixels."""
    _peer(tmp_path / "a_y.onnx", 1)
    _peer(tmp_path / "b_rgb.onnx", 3)
    frame = flat_frame((20, 12), (0, 128, 128))
    plane_view(frame, 0)[...] = noise_frame((20, 12), "gray").to_ndarray() // 2 + 40
    wanted = plane_view(frame, 0).repeat(2, 0).repeat(2, 1)
    luma, rgb = load_peers(tmp_path).values()
    assert (luma(plane_view(frame, 0), 255) == wanted).all()
    picture = rgb.rgb_picture(frame)
    assert np.abs(picture.luma.astype(int) - wanted).max() <= 1
    assert picture.rgb().shape == (24, 40, 3)
    _peer(tmp_path / "c_y.onnx", 1, factor=3)
    with pytest.raises(ModelError, match="output is"):
        load_peers(tmp_path)["c_y"](plane_view(frame, 0), 255)
    _peer(tmp_path / "d.onnx", 4)
    with pytest.raises(ModelError, match="4 channels"):
        load_peers(tmp_path)


@pytest.mark.parametrize("command", ["compare", "score"])
def test_a_peer_called_like_another_method_is_refused(
    command: str, pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It silently stood in for our own network or for lanczos."""
    (tmp_path / "peers").mkdir()
    _peer(tmp_path / "peers/lanczos.onnx", 1)
    given = {"compare": [pair[0], "--models", "fast"], "score": ["fast", "--clips", str(tmp_path)]}[command]
    code = main.run([command, *given, "--peers", str(tmp_path / "peers")])
    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert "another method here is called lanczos" in err
