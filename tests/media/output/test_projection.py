"""360° boxes and 3D in the header, which PyAV cannot set, come through every container that has them."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
from rich_clip import passage, picture

from upscale.media.input.probe import probe
from upscale.media.output.projection import model_header, model_stream
from upscale.options import Options

#: `AVSphericalMapping`: projection; yaw, pitch, roll in 16.16; left, top, right, bottom in 0.32; padding.
EQUIRECTANGULAR = struct.pack("<i3i5I", 0, 0, 0, 0, 0, 0, 0, 0, 0)
TURNED = struct.pack("<i3i5I", 0, 90 << 16, -5 << 16, 0, 0, 0, 0, 0, 0)
TILE = struct.pack("<i3i5I", 2, 0, 0, 0, 1 << 30, 1 << 29, 1 << 28, 1 << 27, 0)
CUBEMAP = struct.pack("<i3i5I", 1, 0, 0, 0, 0, 0, 0, 0, 16)
FISHEYE = struct.pack("<i3i5I", 5, 0, 0, 0, 0, 0, 0, 0, 0)


def write(path: Path, spherical: bytes, stereo: str | None = None) -> Path:
    header = model_header("libx264", "matroska", (64, 64), spherical)
    assert header is not None
    with av.open(str(path), "w", container_options={"strict": "unofficial"}) as out:
        with model_stream(header) as model:
            stream = out.add_stream_from_template(model, opaque=False)
        if stereo is not None:
            stream.metadata["stereo_mode"] = stereo
        context = stream.codec_context
        context.width = context.height = 64
        context.pix_fmt, context.time_base, context.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
        context.flags |= int(av.codec.context.Flags.global_header)
        context.open()
        for n in range(5):
            frame = picture(n, (64, 64))
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("output", "codec"),
    [("out.mp4", "libx264"), ("out.mov", "libx264"), ("out.mkv", "libx264"), ("out.mp4", "libx265"),
     ("out.mkv", "libx265"), ("out.webm", "libvpx-vp9"), ("out.mkv", "libvpx-vp9")],
)  # fmt: skip
@pytest.mark.parametrize("spherical", [EQUIRECTANGULAR, TURNED, TILE, CUBEMAP])
def test_the_projection_comes_through(spherical: bytes, output: str, codec: str, tmp_path: Path) -> None:
    """Spherical video (sv3d in MP4, Projection in Matroska) lost its box: players showed it flat."""
    source = write(tmp_path / "in.mkv", spherical)
    plan, _ = passage(source, tmp_path / output, Options(codec=codec), (128, 128))
    before, after = probe(str(source)).video, probe(str(tmp_path / output)).video
    assert before is not None
    assert after is not None
    assert before.spherical == spherical
    if output.endswith(".mov") and spherical not in (EQUIRECTANGULAR, TURNED):
        assert plan.lost == ["the 360° projection"]
    elif output.endswith((".mp4", ".mov")) and spherical == TURNED:
        # FFmpeg overwrites it with Apple's box when it reads; what Google's box holds is right
        if output.endswith(".mp4"):
            assert (
                b"prhd" + bytes(4) + struct.pack(">2i", 90 << 16, -5 << 16)
                in (tmp_path / output).read_bytes()
            )
        assert plan.lost == []
    else:
        assert after.spherical == spherical
        assert plan.lost == []
    assert (after.width, after.height) == (128, 128)


@pytest.mark.parametrize(
    ("output", "codec"), [("out.mkv", "libsvtav1"), ("out.avi", "mpeg4"), ("out.ts", "libx264")]
)
def test_where_it_has_no_place_it_is_named(output: str, codec: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in.mkv", EQUIRECTANGULAR)
    plan, _ = passage(source, tmp_path / output, Options(codec=codec), (128, 128))
    assert "the 360° projection" in plan.lost
    assert plan.model is None


def test_projections_that_matroska_has_no_name_for() -> None:
    assert model_header("libx264", "mp4", (64, 64), FISHEYE) is None


def test_3d_and_360_at_once(tmp_path: Path) -> None:
    """Stereoscopic 360° video: one view over the other."""
    source = write(tmp_path / "in.mkv", EQUIRECTANGULAR, "top_bottom")
    for output, codec in (("out.mkv", "libx265"), ("out.mp4", "libx264")):
        plan, _ = passage(source, tmp_path / output, Options(codec=codec), (128, 128))
        after = probe(str(tmp_path / output)).video
        assert after is not None
        assert (after.spherical, after.stereo_mode) == (EQUIRECTANGULAR, "top_bottom")
        assert plan.lost == []
