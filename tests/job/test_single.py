"""The streaming loop, on real media, with swscale in the network's place unless that is the point."""

from __future__ import annotations

import os
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import MakeClip

from upscale import OutputError, UsageError, upscale_file
from upscale.events import Event, Progress, Result, Start, Warned
from upscale.frame.upscaler import FrameUpscaler
from upscale.options import Options

LANCZOS = Options(model="lanczos")


def read(path: Path) -> tuple[list[Fraction], list[bytes], tuple[int, int]]:
    """Times of all frames, all audio packets, and the frame size."""
    times, packets, size = [], [], (0, 0)
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.stream.type == "audio" and packet.size:
                packets.append(bytes(packet))
            elif packet.stream.type == "video":
                for frame in packet.decode():
                    times.append(frame.pts * Fraction(frame.time_base))
                    size = frame.width, frame.height
    return times, packets, size


def test_frames_keep_number_times_and_order_and_audio_its_packets(samples: Path, tmp_path: Path) -> None:
    clip, output = samples / "face_360p.mp4", tmp_path / "out.mp4"
    result = upscale_file(str(clip), str(output), LANCZOS)
    before, after = read(clip), read(output)
    assert after[0] == before[0]
    assert after[1] == before[1]
    assert after[2] == (1280, 720)
    assert result.frames == len(before[0])
    assert result.bytes == output.stat().st_size
    assert not result.damaged


def test_order_of_pictures_survives_parallel_workers(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that take differently long to upscale must not overtake each other."""
    clip = make_clip(tmp_path / "in.mkv", frames=40, codec="ffv1", pix_fmt="gray")
    import time

    from upscale.frame.upscaler import FrameUpscaler

    plain = FrameUpscaler.__call__

    def uneven(self: FrameUpscaler, frame: av.VideoFrame) -> av.VideoFrame:
        time.sleep(0.01 * ((frame.pts or 0) % 3 == 0))
        return plain(self, frame)

    monkeypatch.setattr(FrameUpscaler, "__call__", uneven)
    output = tmp_path / "out.mkv"
    upscale_file(str(clip), str(output), Options(model="lanczos", scale=2, codec="ffv1", threads=4))

    def pictures(path: Path) -> list[Any]:
        with av.open(str(path)) as container:
            return [f.to_ndarray(format="gray").astype(float) for f in container.decode(video=0)]

    small, large = pictures(clip), pictures(output)
    for picture, original in zip(large, small, strict=True):
        halved = picture.reshape(48, 2, 64, 2).mean(axis=(1, 3))
        distances = [np.abs(halved - other).mean() for other in small]
        assert np.abs(halved - original).mean() == min(distances)


def test_events_begin_with_start_and_end_with_the_result(samples: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    options = Options(model="lanczos", stop=1.0)
    result = upscale_file(str(samples / "bee_360p.mp4"), str(tmp_path / "o.mkv"), options, events.append)
    assert isinstance(events[0], Start)
    assert events[0].size == (1280, 720)
    assert events[-1] is result
    progress = [e for e in events if isinstance(e, Progress)]
    assert [p.frames for p in progress] == sorted(p.frames for p in progress)
    assert all(p.frames <= result.frames for p in progress)
    assert result.as_json()["event"] == "result"


def test_default_output_lies_beside_the_input(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    result = upscale_file(str(clip), None, Options(model="lanczos", target="1080p"))
    assert result.output == str(tmp_path / "clip_1080p.mp4")
    assert os.path.exists(result.output)


def test_existing_output_is_refused_before_any_work(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists"):
        upscale_file(str(clip), str(tmp_path / "out.mp4"), LANCZOS)
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


def test_large_input_is_refused_with_the_options_named(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mp4", size=(1280, 720), frames=1)
    with pytest.raises(UsageError, match="--target") as caught:
        upscale_file(str(clip), None, LANCZOS)
    assert caught.value.path == str(clip)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("stage", ["network", "encode", "listener"])
def test_an_error_in_any_stage_leaves_no_file_and_no_thread(
    stage: str, tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=60, audio=True)
    folder = tmp_path / "out"
    folder.mkdir()
    before = threading.active_count()

    def fail(*args: Any) -> Any:
        raise OutputError("broken on purpose")

    def listen(event: Event) -> None:
        if stage == "listener" and isinstance(event, Start):
            fail()

    if stage == "network":
        monkeypatch.setattr("upscale.frame.upscaler.FrameUpscaler.__call__", fail)
    elif stage == "encode":
        monkeypatch.setattr("upscale.media.output.sink.Sink.frame", fail)
    with pytest.raises(OutputError, match="on purpose"):
        upscale_file(str(clip), str(folder / "o.mp4"), LANCZOS, listen)
    assert os.listdir(folder) == []
    assert threading.active_count() == before


def test_keyboard_interrupt_leaves_no_file_and_no_thread(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mp4", size=(320, 240), frames=400)
    folder = tmp_path / "out"
    folder.mkdir()
    before = threading.active_count()

    def press(event: Event) -> None:
        if isinstance(event, Progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_file(str(clip), str(folder / "o.mp4"), LANCZOS, press)
    assert os.listdir(folder) == []
    assert threading.active_count() == before


def test_a_truncated_input_is_finished_and_the_damage_named(tmp_path: Path, make_clip: MakeClip) -> None:
    clip = make_clip(tmp_path / "clip.mkv", size=(320, 240), frames=250)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    events: list[Event] = []
    result = upscale_file(str(clip), str(tmp_path / "o.mkv"), LANCZOS, events.append)
    assert result.damaged
    assert 0 < result.frames < 250
    warnings = [e.message for e in events if isinstance(e, Warned)]
    assert any("damaged" in w for w in warnings)
    assert result.warnings == tuple(warnings)


def test_default_network_and_backend_upscale(samples: Path, tmp_path: Path) -> None:
    """The job that everything is about, with what a plain install has."""
    output = tmp_path / "o.mp4"
    options = Options(backend="onnx", stop=0.5)
    result = upscale_file(str(samples / "keyboard_phone_rotated_360p.mp4"), str(output), options)
    assert isinstance(result, Result)
    assert "onnx" in result.backend
    assert read(output)[2] == (1280, 720)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has niceness by thread")
def test_the_network_gives_way_to_the_encoder_and_only_the_network(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the pipeline's speed: each frame of an encoder waits for the one before it."""
    seen: set[int] = set()

    def look(self: FrameUpscaler, frame: av.VideoFrame) -> av.VideoFrame:
        seen.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return frame.reformat(*self.size)

    monkeypatch.setattr(FrameUpscaler, "__call__", look)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    upscale_file(str(make_clip(tmp_path / "in.mp4")), str(tmp_path / "o.mp4"), Options(model="lanczos"))
    assert seen == {min(19, before + 10)}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
