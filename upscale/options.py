"""What a user can ask of one job: the only place where option defaults are written."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Seconds. Live HLS sends nothing for the length of a segment, which is rarely more than ten seconds.
TIMEOUT = 20.0

#: Names of `--target` and the length of the short side, in pixels, that they stand for.
TARGETS = {"720p": 720, "1080p": 1080, "1440p": 1440, "2160p": 2160}
DEFAULT_TARGET = "720p"

#: Model names that use swscale instead of a network: the baselines that everything is measured by.
RESAMPLERS = ("lanczos", "bicubic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of `upscale.upscale_file` and `upscale.upscale_directory`.

    Size: at most one of `target`, `scale`, `width`/`height` may be set; with none of them the
    short side becomes `DEFAULT_TARGET`. `width` or `height` alone keeps the display aspect.

    Attributes:
        target: one of `TARGETS`.
        scale: factor on both sides, > 1.
        width, height: exact size in stored pixels, even where the pixel format needs it.
        codec: encoder name as FFmpeg knows it; None lets the output container decide
            (`upscale.media.output.encoders.default_codec`).
        crf: constant quality; None is the encoder's own entry in `upscale.media.output.encoders`.
        preset: encoder preset; None is the encoder's own entry in `upscale.media.output.encoders`.
        pix_fmt: output pixel format; None keeps the source's, or the encoder's nearest.
        encoder_options: further private options of the encoder, passed unchanged.
        compatible: write what every player and phone plays: 8-bit 4:2:0 H.264 with AAC in MP4.
        start, stop: part of the input to keep, in seconds from its start; None is open.
        audio, subtitles: False leaves these streams out.
        keep_interlaced: refuse interlaced sources instead of deinterlacing them.
        strict: fail where the input is damaged, instead of finishing what can be read of it.
        trust_input: also read formats and codecs that are not on the lists for files of unknown origin
            (`upscale.media.input.open`).
        model: name of a bundled model, one of `RESAMPLERS`, or a path to a weights file;
            None is the default of `weights/models.json`.
        strength: 0…1, how far to go from the fidelity model (0) to the GAN model (1) of a pair, by
            interpolating their weights; None is `model` as it is.
        backend: name in `upscale.backends.NAMES`, or "auto".
        precision: one of `upscale.backends.variants.PRECISIONS`, or "auto": the fastest that stays as near to
            fp32 as `upscale.backends.trial` requires.
        device: "cpu", "cuda", "mps", … for backends with a choice of devices; None is the backend's default.
        threads: threads of the network's runtime; None is all cores.
        reuse: compute only what changed from frame to frame; the result is the same, bit for bit.
        timeout: URLs and devices: seconds without any data after which the input has ended or failed.
        realtime: drop frames before the network where the machine cannot keep up, so that the result is
            never late; files are read at the pace of their own timestamps. None does it for inputs that
            do not wait (cameras, RTSP, RTP, UDP).
        input_options: URLs and devices: see `upscale.media.input.address.INPUT_OPTIONS`.
        overwrite: True replaces an existing output, False refuses. Never asked interactively.
        skip_existing: directories: leave out inputs whose output is there already.
        recursive: directories: go into subfolders.
        resume: write long jobs in segments beside the output, so that a run that was stopped can continue
            (`upscale.jobs.resume`); False writes the file in one go.
        cluster: address of a Dask scheduler whose workers do the work (`upscale.jobs.cluster.client`), or
            "local" to start one here; None works in this process. It takes precedence over `jobs`.
        jobs: directories: files at once, each in a process of its own; no more than there are cores.
        container: FFmpeg name of the output format; None takes it from the file name.
        fps: of numbered pictures (``frames/%04d.png``) as the input; None is 25.
    """

    target: str | None = None
    scale: float | None = None
    width: int | None = None
    height: int | None = None
    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    encoder_options: dict[str, str] = field(default_factory=dict)
    compatible: bool = False
    start: float | None = None
    stop: float | None = None
    audio: bool = True
    subtitles: bool = True
    keep_interlaced: bool = False
    strict: bool = False
    trust_input: bool = False
    model: str | None = None
    strength: float | None = None
    backend: str = "auto"
    precision: str = "auto"
    device: str | None = None
    threads: int | None = None
    reuse: bool = True
    timeout: float = TIMEOUT
    realtime: bool | None = None
    input_options: dict[str, str] = field(default_factory=dict)
    overwrite: bool = False
    skip_existing: bool = True
    recursive: bool = False
    jobs: int = 1  # one file keeps the cores busy; more only overlap the start and end of short files
    resume: bool = True
    cluster: str | None = None
    container: str | None = None
    fps: float | None = None


#: What is meant where nobody asks for anything.
DEFAULTS = Options()
