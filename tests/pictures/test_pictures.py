"""Still pictures: what a file holds beside its size is the same after upscaling.

Covers upscale/pictures/{job,read,write,metadata,enlarge,picture}.py and upscale/media/input/stills.py.
"""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from upscale import Options, upscale_file
from upscale.errors import LargeEnough, MediaError, UpscaleError, UsageError
from upscale.events import Warned
from upscale.jobs.batch import upscale_directory
from upscale.media.input.stills import picture_format
from upscale.pictures import enlarge
from upscale.pictures.enlarge import Enlarger
from upscale.pictures.metadata import resized_exif
from upscale.pictures.read import MIN_QUALITY, jpeg_quality, read_picture

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TWICE = Options(scale=2, backend="onnx", precision="fp32", threads=1)
_NO_AVIF = ".avif" not in Image.registered_extensions()  # before Pillow 11.3
AVIF = pytest.param("avif", marks=pytest.mark.skipif(_NO_AVIF, reason="this Pillow has no AVIF"))
FORMATS = ("png", "jpg", "webp", AVIF, "tif", "bmp")


def photo(width: int = 48, height: int = 32) -> Image.Image:
    """Something with colour, edges and soft places."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    rgb = np.stack([120 + 100 * np.sin(9 * x), 255 * y / y.max() if height > 1 else y, 200 * (x > y)], 2)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def exif_of(width: int, height: int, orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", orientation
    exif[0x8769] = {0xA002: width, 0xA003: height, 0x9003: "2026:01:02 03:04:05", 0x829A: (1, 60)}
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 14.0)}
    return exif


def opened(path: Path) -> Any:
    with Image.open(path) as image:
        image.load()
        return image


def upscaled(path: Path, out: Path | None = None, options: Options = TWICE) -> Any:
    out = out or path.with_name(f"{path.stem}_out{path.suffix}")
    result = upscale_file(path, out, options)
    assert result.bytes == out.stat().st_size
    return opened(out)


def distance(first: Image.Image, second: Image.Image) -> float:
    """Mean difference in code values, as RGB, of a picture and one of twice its size."""
    small = np.asarray(first.convert("RGB"), int)
    return float(np.abs(np.asarray(second.convert("RGB").reduce(2), int) - small).mean())


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_keeps_size_profile_and_exif(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"in.{ending}"
    extra: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
    photo().save(path, icc_profile=PROFILE, exif=exif_of(48, 32, 1).tobytes(), **extra)
    image = upscaled(path)
    assert (image.size, image.mode) == ((96, 64), "RGB")
    assert image.format == opened(path).format
    assert (
        np.abs(np.asarray(image.reduce(2), int) - np.asarray(Image.open(path).convert("RGB"), int)).mean() < 6
    )
    if ending == "bmp":
        return
    assert image.info["icc_profile"] == PROFILE
    exif = image.getexif()
    assert exif[0x010F] == "Maker"
    directory = exif.get_ifd(0x8769)
    assert (directory[0xA002], directory[0xA003]) == (96, 64), "EXIF names the old size"
    assert directory[0x9003] == "2026:01:02 03:04:05"
    assert exif.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", AVIF, "tif"])
def test_the_orientation_is_that_of_the_input(tmp_path: Path, ending: str) -> None:
    """Shown upright as before, whether by the tag or by the pixels (Pillow turns a TIFF itself)."""
    from PIL import ImageOps

    path = tmp_path / f"in.{ending}"
    photo().save(path, exif=exif_of(48, 32).tobytes())
    before, after = opened(path), upscaled(path)
    if ending != "tif":
        before, after = ImageOps.exif_transpose(before), ImageOps.exif_transpose(after)
    assert before.size == (32, 48)
    assert after.size == (64, 96)
    assert distance(before, after) < 6


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("L", "png"), ("L", "jpg"), ("L", "tif"), ("L", "bmp"), ("LA", "png"), ("RGBA", "png"),
        ("RGBA", "webp"), ("RGBA", "tif"), ("CMYK", "jpg"), ("CMYK", "tif"),
        ("I;16", "png"), ("I;16", "tif"),
    ],
)  # fmt: skip
def test_modes_are_kept(tmp_path: Path, mode: str, ending: str) -> None:
    path = tmp_path / f"in.{ending}"
    if mode == "I;16":
        grey = np.asarray(photo().convert("L")).astype(np.uint16) * 257 + 3
        image = Image.fromarray(grey)
    elif mode.endswith("A"):
        image = photo().convert(mode)
        image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 48).astype(np.uint8), (32, 1))))
    else:
        image = photo().convert(mode)
    image.save(path)
    larger = upscaled(path)
    assert larger.mode == opened(path).mode
    assert larger.mode in (mode, mode.partition(";")[0])  # "I" in Pillow before 10.3
    before, after = np.asarray(image, np.float64), np.asarray(larger, np.float64)
    shrunk = after.reshape(32, 2, 48, 2, -1).mean((1, 3)).reshape(before.shape)
    scale = 257 if mode == "I;16" else 1
    visible = before[..., -1:] > 0 if mode.endswith("A") else np.ones(1, bool)
    assert np.abs((shrunk - before) * visible).mean() < 7 * scale
    if mode == "I;16":
        assert len(np.unique(after)) > 300, "16 bits went through 8"


def test_transparency_has_its_own_plane(tmp_path: Path) -> None:
    """Full and none stay exactly so, and no black from what is hidden spreads into the edge."""
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[8:24, 8:24] = (240, 200, 40, 255)
    Image.fromarray(rgba).save(tmp_path / "in.png")
    larger = np.asarray(upscaled(tmp_path / "in.png"))
    assert (larger[24:40, 24:40] == (240, 200, 40, 255)).all()
    assert (larger[:8, :, 3] == 0).all()
    seen = larger[larger[..., 3] > 8][:, :3].astype(int)
    assert np.abs(seen - (240, 200, 40)).max() < 12, "a dark fringe"


def test_palettes_and_colour_keys_become_colour(tmp_path: Path) -> None:
    palette = photo().quantize(16)
    palette.save(tmp_path / "p.png")
    assert upscaled(tmp_path / "p.png").mode == "RGB"
    palette.save(tmp_path / "key.png", transparency=3)
    larger = upscaled(tmp_path / "key.png")
    assert larger.mode == "RGBA"
    assert larger.getchannel("A").getextrema() == (0, 255)
    photo().convert("1").save(tmp_path / "one.png")
    assert upscaled(tmp_path / "one.png").mode == "L"


def test_flat_colours_stay_exact(tmp_path: Path) -> None:
    """Two conversions between RGB and Y'CbCr of 8 bits would move most colours."""
    rng = np.random.default_rng(0)
    for colour in rng.integers(0, 256, (6, 3)):
        Image.new("RGB", (20, 20), tuple(int(c) for c in colour)).save(tmp_path / "in.png")
        larger = np.asarray(
            upscaled(tmp_path / "in.png", options=Options(scale=2, model="lanczos", overwrite=True))
        )
        assert (larger == colour).all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 7), (7, 1), (3, 5), (47, 31)])
def test_odd_sizes(tmp_path: Path, width: int, height: int) -> None:
    Image.new("RGB", (width, height), (10, 200, 30)).save(tmp_path / "in.png")
    assert upscaled(tmp_path / "in.png").size == (2 * width, 2 * height)


def test_sizes_are_those_of_videos(tmp_path: Path) -> None:
    photo(64, 36).save(tmp_path / "in.png")
    result = upscale_file(tmp_path / "in.png", None, Options(model="lanczos"))
    assert (Path(result.output).name, result.size) == ("in_720p.png", (1280, 720))
    assert upscale_file(tmp_path / "in.png", None, Options(width=101, height=99, model="lanczos")).size == (
        101,
        99,
    )
    with pytest.raises(LargeEnough, match="already 64x36"):
        upscale_file(tmp_path / "in.png", tmp_path / "x.png", Options(height=20))
    with pytest.raises(UsageError, match="too large"):
        upscale_file(tmp_path / "in.png", tmp_path / "x.png", Options(scale=500))


def test_png_keeps_its_chunks(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "A title")
    info.add_itxt("Comment", "Grüße", "de")
    info.add(b"gAMA", struct.pack(">I", 45455))
    photo().save(tmp_path / "in.png", pnginfo=info, dpi=(300, 300))
    larger = upscaled(tmp_path / "in.png")
    assert (larger.text["Title"], larger.text["Comment"]) == ("A title", "Grüße")
    assert larger.info["gamma"] == pytest.approx(0.45455)
    assert larger.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_jpeg_keeps_segments_quantisation_and_subsampling(tmp_path: Path) -> None:
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    segment = b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp
    photo().save(
        tmp_path / "in.jpg", quality=93, subsampling=1, dpi=(72, 72), comment=b"hello", extra=segment,
        progressive=True,
    )  # fmt: skip
    before, larger = opened(tmp_path / "in.jpg"), upscaled(tmp_path / "in.jpg")
    assert larger.quantization == before.quantization
    assert larger.layer == before.layer, "another subsampling"
    assert larger.info["comment"] == b"hello"
    assert larger.info["progressive"]
    assert b"adobe:ns:meta" in (tmp_path / "in_out.jpg").read_bytes()
    assert larger.info["dpi"] == (72, 72)


@pytest.mark.parametrize("quality", [20, 50, 75, 90, 97])
def test_jpeg_quality_is_read_from_the_tables(tmp_path: Path, quality: int) -> None:
    photo().save(tmp_path / "in.jpg", quality=quality)
    assert abs(jpeg_quality(opened(tmp_path / "in.jpg").quantization) - quality) <= 2
    found = upscaled(tmp_path / "in.jpg")
    assert jpeg_quality(found.quantization) >= max(MIN_QUALITY, quality) - 2


def test_webp_stays_lossless_or_lossy(tmp_path: Path) -> None:
    for name, lossless in (("a", True), ("b", False)):
        photo().save(tmp_path / f"{name}.webp", lossless=lossless)
        upscaled(tmp_path / f"{name}.webp", tmp_path / f"{name}2.webp")
        assert (b"VP8L" in (tmp_path / f"{name}2.webp").read_bytes()[:64]) is lossless


def test_other_formats_by_name_say_what_they_cannot_hold(tmp_path: Path) -> None:
    photo().convert("RGBA").save(tmp_path / "in.png")
    with pytest.raises(UsageError, match="JPEG holds no transparency"):
        upscale_file(tmp_path / "in.png", tmp_path / "out.jpg", TWICE)
    with pytest.raises(UsageError, match=r"not as \.mkv"):
        upscale_file(tmp_path / "in.png", tmp_path / "out.mkv", TWICE)
    photo().save(tmp_path / "in.jpg", icc_profile=PROFILE, exif=exif_of(48, 32).tobytes())
    said: list[str] = []
    upscale_file(
        tmp_path / "in.jpg", tmp_path / "out.bmp", TWICE,
        lambda event: said.append(event.message) if isinstance(event, Warned) else None,
    )  # fmt: skip
    assert said == ["BMP holds no colour profile and no EXIF: left out"]
    webp = upscaled(tmp_path / "in.jpg", tmp_path / "out.webp")
    assert webp.info["icc_profile"] == PROFILE
    assert webp.getexif().get_ifd(0x8769)[0xA002] == 96


def test_options_of_videos_are_named(tmp_path: Path) -> None:
    photo().save(tmp_path / "in.png")
    options = Options(scale=2, model="lanczos", crf=18, codec="libx264")
    result = upscale_file(tmp_path / "in.png", None, options)
    assert result.warnings == ("-c:v, -crf only for videos: not used",)


def _bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(_bomb())
    with pytest.raises(MediaError, match="has more than"):
        upscale_file(tmp_path / "in.png", None, TWICE)


@pytest.mark.parametrize("ending", FORMATS)
def test_damage_is_one_line_and_leaves_nothing(tmp_path: Path, ending: str) -> None:
    """Cut off in the middle, and every byte of the header wrong once: refused, or the same size."""
    buffer = io.BytesIO()
    photo(200, 160).save(buffer, Image.registered_extensions()[f".{ending}"])
    data = buffer.getvalue()
    path = tmp_path / f"in.{ending}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UpscaleError) as caught:
        upscale_file(path, None, Options(scale=2, model="lanczos"))
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    rng, said = np.random.default_rng(1), []
    for _ in range(40):
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), 3):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(broken)
        if picture_format(str(path)) is None:
            continue
        try:
            read_picture(str(path))
        except UpscaleError as error:
            said.append(str(error))
    assert not any("\n" in line for line in said)


def test_an_existing_output_is_only_replaced_with_y(tmp_path: Path) -> None:
    photo().save(tmp_path / "in.png")
    (tmp_path / "out.png").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        upscale_file(tmp_path / "in.png", tmp_path / "out.png", TWICE)
    with pytest.raises(UsageError, match="the input itself"):
        upscale_file(tmp_path / "in.png", tmp_path / "in.png", Options(scale=2, overwrite=True))
    assert (tmp_path / "out.png").read_text() == "mine"


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_tiff_keeps_compression_and_exif(tmp_path: Path, compression: str) -> None:
    """Pillow cannot write EXIF into a TIFF that libtiff compresses."""
    photo().save(tmp_path / "a.jpg", exif=exif_of(48, 32, 1).tobytes())
    upscaled(tmp_path / "a.jpg", tmp_path / "a.tif")  # deflate
    photo().save(tmp_path / "in.tif", compression=compression, description="words", icc_profile=PROFILE)
    larger = upscaled(tmp_path / "in.tif")
    assert larger.info["compression"] == ("tiff_adobe_deflate" if compression == "jpeg" else compression)
    assert larger.tag_v2[270] == "words"
    again = upscaled(tmp_path / "a.tif").getexif()
    assert (again[0x010F], again.get_ifd(0x8769)[0xA002], again.get_ifd(0x8825)[1]) == ("Maker", 192, "N")


def test_several_pages_are_refused(tmp_path: Path) -> None:
    photo().save(tmp_path / "in.tif", save_all=True, append_images=[photo()])
    with pytest.raises(UsageError, match="a TIFF of 2 pages"):
        upscale_file(tmp_path / "in.tif", None, TWICE)


def test_animations_are_no_pictures(tmp_path: Path) -> None:
    for ending in ("png", "webp"):
        path = tmp_path / f"a.{ending}"
        photo().save(path, save_all=True, append_images=[photo().rotate(9)], duration=40)
        assert picture_format(str(path)) is None
        photo().save(path)
        assert picture_format(str(path)) is not None
    (tmp_path / "no.png").write_text("text")
    assert picture_format(str(tmp_path / "no.png")) is None
    assert picture_format(str(tmp_path)) is None


def test_a_folder_of_pictures_and_videos(tmp_path: Path) -> None:
    from clips import write_program

    source = tmp_path / "in"
    source.mkdir()
    photo().save(source / "a.jpg")
    photo(1300, 900).save(source / "large.png")
    (source / "bad.webp").write_bytes(b"RIFF....WEBPVP8 broken")
    write_program(source / "clip.mp4")
    summary = upscale_directory(source, tmp_path / "out", Options(model="lanczos"))
    assert [Path(r.output).name for r in summary.results] == ["a.jpg", "clip.mp4"]
    assert [Path(s.input).name for s in summary.skipped] == ["large.png"]
    assert [Path(f.input).name for f in summary.failed] == ["bad.webp"]
    assert opened(tmp_path / "out" / "a.jpg").size == (1080, 720)


def test_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A large photograph is computed in bands: the same, bit for bit."""
    photo(160, 130).save(tmp_path / "in.png")
    whole = np.asarray(upscaled(tmp_path / "in.png"))
    calls = []
    original = enlarge.run_all

    def counted(work: Any, items: range, workers: int) -> None:
        calls.append(len(items))
        original(work, items, workers)

    monkeypatch.setattr(enlarge, "BAND_PIXELS", 160 * 20)
    monkeypatch.setattr(enlarge, "run_all", counted)
    parts = np.asarray(upscaled(tmp_path / "in.png", tmp_path / "parts.png"))
    assert calls == [7]
    assert (parts == whole).all()


def test_the_network_makes_the_luma(tmp_path: Path) -> None:
    """What differs from lanczos is the same in red, green and blue."""
    photo().save(tmp_path / "in.png")
    ours = np.asarray(upscaled(tmp_path / "in.png"), int)
    base = np.asarray(
        upscaled(tmp_path / "in.png", tmp_path / "b.png", Options(scale=2, model="lanczos")), int
    )
    detail, inside = ours - base, ((base > 40) & (base < 215) & (ours > 0) & (ours < 255)).all(2)
    assert np.abs(detail[inside]).max() > 2
    assert np.ptp(detail[inside], axis=1).max() <= 1


def test_exif_is_changed_where_it_stands() -> None:
    exif = exif_of(48, 32).tobytes().removeprefix(b"Exif\0\0")
    changed = resized_exif(exif, (96, 64))
    assert len(changed) == len(exif)
    assert sum(a != b for a, b in zip(exif, changed, strict=True)) == 2
    for damaged in (exif[:20], b"MM\0*\xff\xff\xff\xff", b"", b"garbage"):
        assert resized_exif(damaged, (96, 64)) == damaged


def test_an_enlarger_without_a_network_is_the_baseline() -> None:
    picture = read_picture_of(photo())
    larger = Enlarger(backend=None, kernel="bicubic")(picture, (96, 64))
    expected = photo().getchannel("R").resize((96, 64), Image.Resampling.BICUBIC)
    assert np.abs(larger.planes[0].astype(int) - np.asarray(expected, int)).max() <= 1


def read_picture_of(image: Image.Image) -> Any:
    from upscale.pictures.picture import Picture

    return Picture(format="PNG", mode="RGB", planes=tuple(np.asarray(band) for band in image.split()))


def test_info_of_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from upscale.cli.main import run

    photo().convert("RGBA").save(tmp_path / "in.png", icc_profile=PROFILE)
    assert run(["info", "--json", str(tmp_path / "in.png")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["size"], found["output_size"], found["pix_fmt"]) == ([48, 32], [1080, 720], "RGBA")
    assert found["holds"] == ["transparency", "colour profile"]
    assert run(["info", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.jpg")]) == 0
    assert "would be refused: JPEG holds no transparency" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["in.png"]


def test_what_fails_in_one_part_is_not_waited_for() -> None:
    """Nor is a signal: of many parts only those that have begun are finished."""
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise MemoryError
        time.sleep(0.05)

    with pytest.raises(MemoryError):
        enlarge.run_all(work, range(200), 2)
    assert len(begun) < 50
