"""Live inputs on loopback: streams that run, stop, stall and break off, and playlists that lie."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from clips import flat_frame, write_program
from streams import Server, datagrams, free_udp_port, listener

from upscale import MediaError, Options, OutputError, Result, UsageError, upscale_file
from upscale.events import Event, Progress, Start, Warned
from upscale.job.live import LiveFrameQueue
from upscale.media.input.reader import count_back
from upscale.media.output.sink import Sink

#: Quick jobs; whoever has to wait for silence waits this long.
TIMEOUT = 1.0
SECONDS, FRAMES = 2.0, 50


def quick(**more: Any) -> Options:
    return Options(model="lanczos", scale=2, **{"timeout": TIMEOUT, **more})


@pytest.fixture(scope="module")
def ts(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of H.264 and MP2 as MPEG-TS whose clock starts at 5 s."""
    path = tmp_path_factory.mktemp("live") / "a.ts"
    return write_program(path, seconds=SECONDS, offset=5.0, format="mpegts").read_bytes()


@pytest.fixture(scope="module")
def mkv(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_program(tmp_path_factory.mktemp("live") / "a.mkv", seconds=SECONDS).read_bytes()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    try:
        yield running
    finally:
        running.close()


def video_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [f.pts * Fraction(f.time_base) for f in container.decode(video=0)]


def audio_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [p.pts * Fraction(p.time_base) for p in container.demux(audio=0) if p.size]


def only_file(folder: Path) -> str:
    (found,) = folder.iterdir()
    return found.name


# Whole, stalled and broken streams


def test_a_stream_over_http_is_recorded_whole(server: Server, ts: bytes, tmp_path: Path) -> None:
    server.pages["/a.ts"] = server.live(ts, 1.0)
    output = tmp_path / "o.mkv"
    result = upscale_file(server.url + "/a.ts", str(output), quick())
    assert (result.frames, result.damage, result.warnings) == (FRAMES, (), ())
    times = video_times(output)
    assert [t - times[0] for t in times] == [Fraction(n * 40, 1000) for n in range(FRAMES)]
    assert 0 <= times[0] < 0.04  # the sound begins a little earlier
    (tmp_path / "in.ts").write_bytes(ts)
    assert len(audio_times(output)) == len(audio_times(tmp_path / "in.ts"))


@pytest.mark.parametrize("then", ["stall", "drop"])
def test_a_stream_that_breaks_off_is_finished_and_counts_as_damaged(
    then: str, server: Server, ts: bytes, tmp_path: Path
) -> None:
    server.pages["/a.ts"] = server.live(ts[: len(ts) // 2], 0.2, then=then, promised=len(ts))
    output = tmp_path / "o.mkv"
    result = upscale_file(server.url + "/a.ts", str(output), quick())
    assert ("no data for 1 s" if then == "stall" else "broke off") in result.damage[-1]
    assert FRAMES / 3 < result.frames < FRAMES * 2 / 3
    assert len(video_times(output)) == result.frames


def test_udp_that_falls_silent_is_an_ordinary_end(ts: bytes, tmp_path: Path) -> None:
    port, output = free_udp_port(), tmp_path / "o.ts"
    with datagrams(ts, SECONDS / 2, port):
        result = upscale_file(f"udp://127.0.0.1:{port}", str(output), quick())
    assert result.damage == ()
    assert any("the stream ended: no data for 1 s" in w for w in result.warnings)
    assert len(video_times(output)) == result.frames > FRAMES / 3


@pytest.mark.parametrize("scheme", ["tcp", "http", "rtsp", "rtmp"])
def test_silence_before_the_first_frame_fails_after_the_timeout(scheme: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    with listener() as place, pytest.raises(MediaError, match=r"no data for 0\.3 s") as caught:
        upscale_file(f"{scheme}://{place}/live/x", str(tmp_path / "o.mkv"), quick(timeout=0.3))
    assert time.monotonic() - begun < 5
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_stalls_before_it_can_be_decoded_fails(
    server: Server, ts: bytes, tmp_path: Path
) -> None:
    server.pages["/a.ts"] = server.live(ts[: 188 * 3], 0.1, then="stall")
    with pytest.raises(MediaError):
        upscale_file(server.url + "/a.ts", str(tmp_path / "o.mkv"), quick(timeout=0.3))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_reached_says_why(server: Server, tmp_path: Path) -> None:
    cases = {
        server.url + "/none": "404",
        "tcp://127.0.0.1:1": "refused",
        "srt://127.0.0.1:1": "srt|refused|no data",
        "v4l2:/no/such/device": "No such file|no video4linux2",
    }
    for url, why in cases.items():
        with pytest.raises(MediaError, match=why):
            upscale_file(url, str(tmp_path / "o.mkv"), quick(timeout=0.3))


# Containers and names


def test_a_container_that_only_its_end_makes_readable_is_refused_for_a_stream_without_end(
    server: Server, ts: bytes, tmp_path: Path
) -> None:
    server.pages["/a.ts"] = server.live(ts, 0.5)
    with pytest.raises(UsageError, match=r"\.mkv or \.ts, or --container fmp4"):
        upscale_file(server.url + "/a.ts", str(tmp_path / "o.mp4"), quick())
    assert list(tmp_path.iterdir()) == []
    result = upscale_file(server.url + "/a.ts", str(tmp_path / "o.mp4"), quick(container="fmp4"))
    assert len(video_times(tmp_path / "o.mp4")) == result.frames == FRAMES


def test_a_whole_file_behind_a_url_may_become_an_mp4(server: Server, mkv: bytes, tmp_path: Path) -> None:
    server.pages["/a.mkv"] = mkv
    result = upscale_file(server.url + "/a.mkv", str(tmp_path / "o.mp4"), quick())
    assert (result.frames, result.damage) == (FRAMES, ())


@pytest.mark.parametrize("output", [None, "."])
def test_a_stream_needs_a_named_output(output: str | None) -> None:
    with pytest.raises(UsageError, match="name an output file"):
        upscale_file("udp://127.0.0.1:1", output, quick())


def test_input_options_are_for_live_inputs_and_open_no_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="URLs and capture devices"):
        upscale_file("in.mp4", str(tmp_path / "o.mkv"), quick(input_options={"user_agent": "x"}))
    for name in ("protocol_whitelist", "ca_file", "format_whitelist", "allowed_extensions"):
        with pytest.raises(UsageError, match="unknown input option"):
            upscale_file("http://127.0.0.1:1/", str(tmp_path / "o.mkv"), quick(input_options={name: "ALL"}))


def test_input_options_reach_the_protocol(server: Server, mkv: bytes, tmp_path: Path) -> None:
    seen: list[str | None] = []

    def page(handler: Any) -> None:
        seen.append(handler.headers.get("User-Agent"))
        server.begin(handler, len(mkv))
        handler.wfile.write(mkv)

    server.pages["/a.mkv"] = page
    given = quick(input_options={"user_agent": "camera club"})
    upscale_file(server.url + "/a.mkv", str(tmp_path / "o.mkv"), given)
    assert set(seen) == {"camera club"}


def test_frames_without_times_get_those_at_which_they_came(server: Server, tmp_path: Path) -> None:
    """MJPEG cameras send pictures and nothing else; FFmpeg would call it 25 a second."""
    with av.open(str(tmp_path / "one.jpg"), "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        out.mux(stream.encode(flat_frame((64, 48), (90, 128, 128), "yuvj420p")))
        out.mux(stream.encode(None))
    picture = (tmp_path / "one.jpg").read_bytes()

    def camera(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        for _ in range(16):
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            handler.wfile.write(head.encode() + picture + b"\r\n")
            time.sleep(0.1)

    server.pages["/cam"] = camera
    output = tmp_path / "o.mkv"
    result = upscale_file(server.url + "/cam", str(output), quick())
    times = video_times(output)
    assert len(times) == result.frames == 16
    # A sender that sleeps 0.1 s is never faster; those read while the job was set up come together.
    assert 0.5 < times[-1] < 10
    assert max(b - a for a, b in pairwise(times)) > 0.05


@pytest.mark.parametrize("where", ["network", "check"])
def test_a_recording_that_fails_is_kept_as_far_as_it_went(
    where: str, server: Server, ts: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: a full disk or a failed comparison at the end must not throw hours away."""
    server.pages["/a.ts"] = server.live(ts, 0.2)
    if where == "check":

        def wrong(*args: Any) -> None:
            raise OutputError("not what was written")

        monkeypatch.setattr("upscale.media.output.sink.verify", wrong)
    else:
        from upscale.frame.upscaler import FrameUpscaler

        plain = FrameUpscaler.__call__

        def fail(self: FrameUpscaler, frame: av.VideoFrame) -> av.VideoFrame:
            if float((frame.pts or 0) * frame.time_base) > 1:
                raise OutputError("no more")
            return plain(self, frame)

        monkeypatch.setattr(FrameUpscaler, "__call__", fail)
    with pytest.raises(OutputError, match=r"; what was recorded is in .*o\.incomplete\.mkv"):
        upscale_file(server.url + "/a.ts", str(tmp_path / "o.mkv"), quick())
    assert only_file(tmp_path) == "o.incomplete.mkv"
    # What the encoder still held is gone.
    assert len(video_times(tmp_path / "o.incomplete.mkv")) > (FRAMES - 1 if where == "check" else 0)


def test_frames_before_the_first_known_time_count_back() -> None:
    """Guards: RTSP's first packet has no time; at a time below zero Matroska lost it, and the file."""
    frames = [flat_frame((64, 48), (90, 128, 128)) for _ in range(4)]
    for frame, pts in zip(frames, (None, None, 7200, 10800), strict=True):
        frame.pts, frame.duration = pts, 3600
    count_back(frames)
    assert [f.pts for f in frames] == [0, 3600, 7200, 10800]


# Playlists


def playlist(*segments: str) -> bytes:
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n"
    return (head + "".join(f"#EXTINF:4.0,\n{s}\n" for s in segments) + "#EXT-X-ENDLIST\n").encode()


SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n"


def test_a_playlist_works_behind_a_typed_url(server: Server, ts: bytes, tmp_path: Path) -> None:
    server.pages["/a.m3u8"] = playlist("one.ts")
    server.pages["/one.ts"] = ts
    result = upscale_file(server.url + "/a.m3u8", str(tmp_path / "o.mkv"), quick())
    assert (result.frames, result.damage) == (FRAMES, ())


@pytest.mark.parametrize("name", ["a.m3u8", "a.mp4", "a.ts", "a.txt"])
@pytest.mark.parametrize("kind", ["hls", "ffconcat", "mpd", "sdp", "ram"])
def test_a_playlist_in_a_file_reaches_no_network(
    kind: str, name: str, server: Server, ts: bytes, tmp_path: Path
) -> None:
    server.pages["/one.ts"] = ts
    url = server.url + "/one.ts"
    texts = {
        "hls": playlist(url),
        "ffconcat": f"ffconcat version 1.0\nfile '{url}'\n".encode(),
        "mpd": f"""<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
            profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet><Representation
            id="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>""".encode(),
        "sdp": SDP,
        "ram": url.encode() + b"\n",
    }
    (tmp_path / name).write_bytes(texts[kind])
    with pytest.raises(MediaError):
        upscale_file(str(tmp_path / name), str(tmp_path / "o.mkv"), quick())
    assert server.hits == []
    assert only_file(tmp_path) == name


@pytest.mark.parametrize("kind", ["hls", "hls-absolute", "concat", "redirect", "sdp"])
def test_what_a_server_says_reaches_no_local_file(
    kind: str, server: Server, ts: bytes, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(ts)
    (out := tmp_path / "out").mkdir()

    def redirect(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"file://{secret}")
        handler.end_headers()

    pages: dict[str, Any] = {
        "hls": playlist(f"file://{secret}"),
        "hls-absolute": playlist(str(secret)),
        "concat": f"ffconcat version 1.0\nfile 'file://{secret}'\n".encode(),
        "redirect": redirect,
        "sdp": SDP,
    }
    server.pages["/a.m3u8"] = pages[kind]
    with pytest.raises(MediaError):
        upscale_file(server.url + "/a.m3u8", str(out / "o.mkv"), quick())
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["http:x.mkv", "v4l2:x.mkv", "udp:x.mkv"])
def test_files_called_like_urls_and_devices_stay_files(
    name: str, mkv: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(mkv)
    for path in ("./" + name, str(tmp_path / name)):
        assert upscale_file(path, None, quick(overwrite=True)).frames == FRAMES


# Ctrl-C


ARGUMENTS = ("--model", "lanczos", "--scale", "2", "--no-progress")


def stopped_when(ready: Any, number: signal.Signals, *args: str) -> tuple[int, str, float]:
    """Exit code, stderr and seconds from a signal, sent once `ready()` is true, to the end."""
    command = [sys.executable, "-m", "upscale", *args, *ARGUMENTS]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not ready() and process.poll() is None:
                time.sleep(0.02)
            sent = time.monotonic()
            process.send_signal(number)
            _, text = process.communicate(timeout=30)
        finally:
            process.kill()
        return process.returncode, text, time.monotonic() - sent


def test_ctrl_c_ends_a_silent_opening_at_once(server: Server, tmp_path: Path) -> None:
    server.pages["/silent"] = lambda handler: server.over.wait()
    code, text, seconds = stopped_when(
        lambda: server.hits, signal.SIGINT, server.url + "/silent", str(tmp_path / "o.mkv"), "--timeout", "20"
    )
    assert (code, text) == (130, "upscale: stopped; unfinished files were removed\n")
    assert seconds < 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_a_stall_keeps_the_recording(
    number: signal.Signals, code: int, server: Server, ts: bytes, tmp_path: Path
) -> None:
    """Guards: what was recorded must not be thrown away, nor wait for the timeout."""
    server.pages["/a.ts"] = server.live(ts, 0.1, then="stall")
    output = tmp_path / "o.mkv"

    def recording() -> bool:
        return any(p.stat().st_size > 20000 for p in tmp_path.iterdir())

    got, text, seconds = stopped_when(recording, number, server.url + "/a.ts", str(output), "--timeout", "60")
    assert got == code
    assert text.splitlines()[-1] == "upscale: stopped; the recording up to here is complete"
    assert seconds < 20
    assert only_file(tmp_path) == "o.mkv"
    assert len(video_times(output)) > 30


def test_ctrl_c_while_data_comes_loses_no_frame_of_what_came(
    server: Server, ts: bytes, tmp_path: Path
) -> None:
    server.pages["/a.ts"] = server.live(ts, SECONDS, then="stall")
    output = tmp_path / "o.mkv"
    events: list[Event] = []

    def listen(event: Event) -> None:
        pressed = any(isinstance(e, Progress) and e.frames > 10 for e in events)
        events.append(event)
        if isinstance(event, Progress) and event.frames > 10 and not pressed:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        upscale_file(server.url + "/a.ts", str(output), quick(timeout=20), listen)
    assert "complete" in caught.value.__notes__[0]
    assert isinstance(result := events[-1], Result)
    assert result.stopped
    assert result.damage == ()
    times = video_times(output)
    assert len(times) == result.frames
    # Only the last frame may have come before those that are shown before it.
    assert all(b - a == Fraction(40, 1000) for a, b in pairwise(times[:-1]))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_recording_that_is_killed_can_be_read(server: Server, ts: bytes, tmp_path: Path) -> None:
    server.pages["/a.ts"] = server.live(ts, 1.0, then="stall")

    def recording() -> bool:
        return any(p.stat().st_size > 20000 for p in tmp_path.iterdir())

    url = server.url + "/a.ts"
    code, _, _ = stopped_when(recording, signal.SIGKILL, url, str(tmp_path / "o.mkv"), "--timeout", "60")
    assert code == -signal.SIGKILL
    left = tmp_path / only_file(tmp_path)
    with av.open(str(left), format="matroska") as container:
        assert sum(1 for _ in container.decode(video=0)) > 20
    # The same command again, as a supervisor would, must not remove it.
    server.pages["/a.ts"] = server.live(ts, 0.2)
    result = upscale_file(url, str(tmp_path / "o.mkv"), quick())
    assert any("o.incomplete.mkv" in w for w in result.warnings)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.incomplete.mkv", "o.mkv"]
    assert len(video_times(tmp_path / "o.incomplete.mkv")) > 20


# Real time


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that needs 0.1 s for a frame, one at a time."""
    from upscale.frame.upscaler import FrameUpscaler

    plain = FrameUpscaler.__call__

    def late(self: FrameUpscaler, frame: av.VideoFrame) -> av.VideoFrame:
        time.sleep(0.1)
        return plain(self, frame)

    monkeypatch.setattr(FrameUpscaler, "__call__", late)
    monkeypatch.setattr("upscale.job.live.FIRST_FRAMES", 0)


@pytest.mark.usefixtures("slow")
def test_in_real_time_frames_are_dropped_and_all_else_is_kept(
    mkv: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, output = tmp_path / "in.mkv", tmp_path / "o.mkv"
    clip.write_bytes(mkv)
    events: list[Event] = []
    shown: list[tuple[int, int]] = []
    plain = Sink.frame

    def watch(self: Sink, frame: av.VideoFrame) -> None:
        shown.append((frame.pts or 0, frame.duration))
        plain(self, frame)

    monkeypatch.setattr(Sink, "frame", watch)
    begun = time.monotonic()
    result = upscale_file(str(clip), str(output), quick(realtime=True, threads=1), events.append)
    assert time.monotonic() - begun > SECONDS - 0.1  # read as it would be shown
    assert result.dropped_frames + result.frames == FRAMES
    assert result.dropped_frames > 5
    assert result.damage == ()
    warned = [e.message for e in events if isinstance(e, Warned)]
    assert warned == [f"{result.dropped_frames} of {FRAMES} frames were dropped: the machine cannot keep up"]
    assert result.as_json()["dropped_frames"] == result.dropped_frames
    assert all(e.dropped <= result.dropped_frames for e in events if isinstance(e, Progress))
    before, after = video_times(clip), video_times(output)
    assert len(after) == result.frames
    assert set(after) <= set(before)
    assert audio_times(output) == audio_times(clip)
    # The frame before those that are dropped is shown until the next one: no gap reaches the encoder.
    assert all(a + duration == b for (a, duration), (b, _) in pairwise(shown))
    assert (shown[0][0], sum(shown[-1])) == (0, SECONDS * 1000)


def frames_and_packets(count: int) -> list[Any]:
    """Frames of one tick, each followed by a packet whose pts is the frame's."""
    items: list[Any] = []
    for n in range(count):
        frame, packet = flat_frame((16, 16), (90, 128, 128)), av.Packet(b"x")
        frame.pts, frame.time_base, frame.duration = n, Fraction(1, 25), 1
        packet.pts = n
        items += [frame, packet]
    return items


def read_all(gate: LiveFrameQueue) -> bool:
    """Wait until nothing more can enter the gate."""
    deadline = time.monotonic() + 10
    while not gate._done and time.monotonic() < deadline:
        time.sleep(0.005)
    return gate._done


def test_the_gate_keeps_the_first_and_the_newest_and_every_packet_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("upscale.job.live.FIRST_FRAMES", 0)
    with LiveFrameQueue(frames_and_packets(30), lambda: None, drop=True, pace=False, limit=4) as gate:
        assert read_all(gate)
        items = list(gate)
    assert gate.finished
    assert gate.dropped == 26
    frames = [(i.pts, i.duration) for i in items if isinstance(i, av.VideoFrame)]
    assert frames == [(0, 27), (27, 1), (28, 1), (29, 1)]
    assert [i.pts for i in items if isinstance(i, av.Packet)] == list(range(30))
    assert [i.pts for i in items[-6:]] == [27, 27, 28, 28, 29, 29]


def test_the_gate_lets_a_burst_at_the_start_wait() -> None:
    """Guards: what came while the network was loaded was dropped on machines that are fast enough."""
    with LiveFrameQueue(frames_and_packets(30), lambda: None, drop=True, pace=False) as gate:
        assert read_all(gate)
        assert sum(isinstance(i, av.VideoFrame) for i in gate) == 30
    assert gate.dropped == 0


def test_the_gate_makes_a_source_that_waits_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upscale.job.live.FIRST_FRAMES", 0)
    with LiveFrameQueue(frames_and_packets(30), lambda: None, drop=False, pace=False, limit=4) as gate:
        time.sleep(0.1)
        assert gate._frames == 4
        assert sum(isinstance(i, av.VideoFrame) for i in gate) == 30
    assert gate.dropped == 0


def test_the_gate_hands_on_errors_and_gives_up_on_a_read_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("upscale.job.live._LAST_READ", 0.1)

    def broken() -> Iterator[Any]:
        yield from frames_and_packets(1)
        raise MediaError("gone")

    with LiveFrameQueue(broken(), lambda: None, drop=False, pace=False) as gate, pytest.raises(MediaError):
        list(gate)
    over = threading.Event()

    def hanging() -> Iterator[Any]:
        yield from frames_and_packets(2)
        over.wait()

    with LiveFrameQueue(hanging(), lambda: None, drop=False, pace=False) as gate:
        gate.end()
        assert len(list(gate)) == 4
    assert not gate.finished
    over.set()


@pytest.mark.usefixtures("slow")
def test_files_are_never_thinned_unless_asked(mkv: bytes, tmp_path: Path) -> None:
    clip = tmp_path / "in.mkv"
    clip.write_bytes(mkv)
    result = upscale_file(str(clip), str(tmp_path / "o.mkv"), quick(threads=1, stop=0.4))
    assert (result.frames, result.dropped_frames) == (10, 0)


@pytest.mark.usefixtures("slow")
def test_streams_that_do_not_wait_are_read_in_real_time_by_themselves(ts: bytes, tmp_path: Path) -> None:
    port, output = free_udp_port(), tmp_path / "o.mkv"
    with datagrams(ts, SECONDS / 2, port):
        result = upscale_file(f"udp://127.0.0.1:{port}", str(output), quick(threads=1))
    assert result.dropped_frames
    assert result.damage == ()
    assert len(video_times(output)) == result.frames


def test_the_start_event_of_a_stream_knows_no_length(server: Server, ts: bytes, tmp_path: Path) -> None:
    server.pages["/a.ts"] = server.live(ts, 0.2)
    events: list[Event] = []
    upscale_file(server.url + "/a.ts", str(tmp_path / "o.mkv"), quick(), events.append)
    assert isinstance(start := events[0], Start)
    assert (start.frames, start.duration) == (0, None)
