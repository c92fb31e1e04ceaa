"""What frames carry besides their picture is kept by the encoder or named, whatever it is."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type
from rich_clip import CAPTIONS, passage, picture, write_with_sei

from upscale.errors import UsageError
from upscale.media.input import sidedata
from upscale.media.input.probe import MediaInfo, probe
from upscale.media.output.encoders import EncoderChoice
from upscale.media.output.losses import _NO_LOSS, lost_extras
from upscale.media.output.plan import make_plan
from upscale.options import Options


def kinds(path: Path) -> list[set[str]]:
    """Names of the side data of each frame."""
    with av.open(str(path)) as container:
        return [set(sidedata.kinds(f)) for f in container.decode(video=0)]


@pytest.mark.parametrize(
    ("codec", "kept"), [("libx264", True), ("libx265", True), ("libsvtav1", False), ("libvpx-vp9", False)]
)
def test_closed_captions_stay_or_are_named(codec: str, kept: bool, tmp_path: Path) -> None:
    """Captions in SEI were gone silently with every encoder but libx264."""
    source = write_with_sei(tmp_path / "in.mp4", CAPTIONS)
    assert all("A53_CC" in k for k in kinds(source))
    plan, _ = passage(source, tmp_path / "out.mkv", Options(codec=codec), (128, 128))
    assert all(("A53_CC" in k) == kept for k in kinds(tmp_path / "out.mkv"))
    assert any("closed captions" in w for w in plan.lost) != kept


def test_captions_that_are_switched_off_are_named(tmp_path: Path) -> None:
    source = write_with_sei(tmp_path / "in.mp4", CAPTIONS)
    off = Options(encoder_options={"a53cc": "0"})
    plan = make_plan(probe(str(source)), "out.mkv", off, (128, 128), "yuv420p")
    assert any("closed captions" in w for w in plan.lost)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> MediaInfo:
    return probe(str(write_with_sei(tmp_path_factory.mktemp("plain") / "in.mp4", b"\0\0")))


def lost(info: MediaInfo, output: str = "out.mp4", codec: str | None = None, **video: object) -> list[str]:
    assert info.video is not None
    changed = replace(info, video=replace(info.video, **video))  # type: ignore[arg-type]
    return make_plan(changed, output, Options(codec=codec), (128, 128), "yuv420p").lost


def test_nothing_is_said_of_an_ordinary_picture(plain: MediaInfo) -> None:
    assert lost(plain) == []
    assert lost(plain, side_data=frozenset({"SEI_UNREGISTERED", "GOP_TIMECODE", "DISPLAYMATRIX"})) == []


def test_dolby_vision(plain: MediaInfo) -> None:
    """Profile 8 is a good HDR10 or HLG picture without it; profile 5 is green and purple."""
    data = frozenset({"DOVI_METADATA", "DOVI_RPU_BUFFER"})
    assert lost(plain, side_data=data, dolby_vision=8) == ["the Dolby Vision metadata"]
    with pytest.raises(UsageError, match="Dolby Vision profile 5"):
        lost(plain, side_data=data, dolby_vision=5)


def test_every_kind_that_ffmpeg_has_is_decided(plain: MediaInfo) -> None:
    """The list is FFmpeg's own: a kind that comes with a later version is named, not silent."""
    choice = make_plan(plain, "out.mkv", Options(codec="ffv1"), (128, 128), "yuv420p").encoder
    assert isinstance(choice, EncoderChoice)
    for kind in Type:
        assert lost_extras([kind.name], choice) or kind.name in _NO_LOSS
    assert lost_extras(["SOMETHING_NEW"], choice) == ["frame data of the kind SOMETHING_NEW"]
    assert lost_extras(["UNKNOWN"], choice) == ["frame data of a kind that PyAV cannot name"]


@pytest.mark.parametrize(
    ("output", "codec", "kept"),
    [("out.mkv", "libx264", True), ("out.mkv", "libsvtav1", True), ("out.mp4", "libx264", True),
     ("out.webm", "libvpx-vp9", True), ("out.mp4", "libx265", False), ("out.mp4", "libsvtav1", False)],
)  # fmt: skip
@pytest.mark.parametrize("place", ["sei", "tag"])
def test_3d_arrangement_stays_or_is_named(
    place: str, output: str, codec: str, kept: bool, tmp_path: Path
) -> None:
    """In the header of Matroska, in H.264 as a frame packing SEI, from either of them."""
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        options = {"x264-params": "frame-packing=4"} if place == "sei" else {}
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        if place == "tag":
            stream.metadata["stereo_mode"] = "top_bottom"
        for n in range(5):
            frame = picture(n, (64, 64))
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    plan, _ = passage(source, tmp_path / output, Options(codec=codec), (128, 128))
    after = probe(str(tmp_path / output)).video
    assert after is not None
    assert (after.stereo_mode == "top_bottom") == kept
    assert ("the 3D arrangement top_bottom" in plan.lost) != kept


def test_3d_with_the_right_view_first(plain: MediaInfo) -> None:
    """libx264 writes all frame packing with the left view first: the eyes would be swapped."""
    assert lost(plain, stereo_mode="right_left") == ["the 3D arrangement right_left"]
    assert lost(plain, stereo_mode="left_right") == []
    assert lost(plain, output="out.mkv", stereo_mode="right_left") == []


def test_the_alpha_tag_goes_with_the_transparency(tmp_path: Path) -> None:
    """AlphaMode stayed 1 in files without any."""
    source = tmp_path / "in.webm"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("libvpx-vp9", rate=25, options={"deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.metadata["alpha_mode"] = "1"
        for n in range(3):
            frame = picture(n, (64, 64))
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    for name in ("out.webm", "out.mkv"):
        passage(source, tmp_path / name, size=(128, 128))
        with av.open(str(tmp_path / name)) as container:
            assert "alpha_mode" not in {k.lower() for k in container.streams.video[0].metadata}
