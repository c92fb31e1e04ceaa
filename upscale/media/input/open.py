"""Opening inputs safely, and turning FFmpeg's errors into ours.

An input is one local file, standard input, or what the user typed as a URL or capture device
(`upscale.media.input.address`): no playlists that name further files, no exotic decoders, no picture beyond
`MAX_PIXELS`. `Options.trust_input` lifts the lists. The limits are given twice, to the demuxer (for its
own probing) and to every decoder, because FFmpeg does not hand them from one to the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from typing import TYPE_CHECKING, Any

import av
import av.logging

from upscale.errors import MediaError, OutputError, UsageError
from upscale.media.input.address import STDIN, Address, parse
from upscale.media.input.log import ffmpeg_log
from upscale.media.input.stills import picture_format
from upscale.options import DEFAULTS, Options
from upscale.system.safe_file import write_error

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

#: Largest picture that is decoded (8192 x 8192): a 31 kB PNG can claim 256 Mpx.
MAX_PIXELS = 8192 * 8192

ENCRYPTED = "encrypted (DRM)"

TOO_LARGE = f"the picture has more than {MAX_PIXELS} pixels"

#: Demuxers that read one still picture. Not image2: it takes % in a name for a number and reads the
#: files beside it.
STILL_FORMATS = frozenset(
    {"png_pipe", "jpeg_pipe", "jpegls_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "gif_pipe"}
    | {"j2k_pipe", "ppm_pipe", "pgm_pipe", "jpegxl_pipe", "qoi_pipe"}
)

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,ogg,asf,mxf,nut,gif,apng,"
    "h264,hevc,vvc,av1,obu,m4v,h261,h263,vc1,ivf,mjpeg,dv,rm,wtv,yuv4mpegpipe,"
    # No video in these, but "no video stream" is a better answer than "not a supported format".
    "wav,mp3,aac,ac3,eac3,dts,flac,ape,tta,wv,aiff,caf,w64,au,amr,srt,ass,webvtt,"
) + ",".join(sorted(STILL_FORMATS))

_CODECS = ",".join(
    (
        # Video, and the pictures that cover art is made of.
        "h264,hevc,vvc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,vp6,vp6a,vp6f,mpeg1video,mpeg2video,mpegvideo,"
        "mpeg4,msmpeg4,msmpeg4v1,msmpeg4v2,wmv1,wmv2,wmv3,vc1,h261,h263,h263i,h263p,flv,theora,vp3,dirac,"
        "prores,dnxhd,cfhd,dvvideo,mjpeg,mjpegb,jpeg2000,ffv1,ffvhuff,huffyuv,utvideo,rawvideo,v210,v308,v408,"
        "v410,yuv4,r210,qtrle,svq1,svq3,cinepak,indeo3,indeo5,rv10,rv20,rv30,rv40,msvideo1,msrle,flashsv,"
        "gif,apng,png,bmp,tiff,webp,zmbv,cscd,rpza,smc,snow,cavs,hap,wrapped_avframe",
        # Audio: only its parameters are read.
        "aac,aac_latm,ac3,eac3,dca,truehd,mlp,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,libopus,vorbis,flac,"
        "alac,ape,tta,wavpack,wmav1,wmav2,wmapro,wmalossless,wmavoice,amrnb,amrwb,libopencore_amrnb,"
        "libopencore_amrwb,gsm,gsm_ms,speex,cook,sipr,ra_144,ra_288,nellymoser,adpcm_ms,adpcm_ima_wav,"
        "adpcm_ima_qt,adpcm_swf,adpcm_yamaha,pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,"
        "pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_bluray,pcm_dvd,s302m,"
        "g722,g726,qdm2,qcelp,atrac3,atrac3p",
        # Subtitles.
        "ass,ssa,subrip,srt,mov_text,webvtt,text,dvbsub,dvdsub,pgssub,xsub,sami,microdvd,cc_dec",
    )
)

#: Demuxers that lead to further files or to the network, or take their input for a program: never for a file.
_REACH_OUT = frozenset(
    "avisynth concat concatf dash dvdvideo hls imf image2 image2pipe lavfi libcdio rtp rtsp sap sdp "
    "vapoursynth vobsub webm_dash_manifest".split()
)

#: How to read a file that the lists refuse.
_INSIST = "; if you trust the file, try --trust-input"

#: FFmpeg's wording of what happens to files outside the whitelists, and ours.
_REASONS = {
    "Format not on whitelist": f"not a supported kind of file{_INSIST}",
    "not on whitelist": f"the codec is not on the list of those that are decoded{_INSIST}",
    "max pixel count": TOO_LARGE,
}


#: Arguments of `av.open` with which tags that are not UTF-8 (old AVI files) keep their bytes, in and out.
#: PyAV 19 has no such argument.
TAGS: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)


def ffmpeg_reasons() -> contextlib.AbstractContextManager[None]:
    """Make FFmpeg's exceptions carry the real reason (``e.log``) while the block runs."""
    return ffmpeg_log(av.logging.ERROR)


def reason(error: BaseException) -> str:
    """One line that says why FFmpeg (or the system) refused."""
    log = getattr(error, "log", None)
    text = ""
    if isinstance(log, tuple) and log:
        text = str(log[-1]).strip().splitlines()[0] if str(log[-1]).strip() else ""
    text = text or str(getattr(error, "strerror", None) or "") or str(error) or type(error).__name__
    for theirs, ours in _REASONS.items():
        if theirs in text:
            return ours
    # Names of files and tags reach these texts: no control characters on anybody's terminal.
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text.rstrip(".") or type(error).__name__


def media_error(error: BaseException, path: str | None = None) -> MediaError:
    """Translate an exception of PyAV or the system."""
    return MediaError(reason(error), path=path)


def output_error(error: av.FFmpegError | OSError, path: str | None = None) -> OutputError:
    """Translate an exception of PyAV or the system that came while writing."""
    if isinstance(error, OSError):
        known = error.errno == errno.ENOSPC or isinstance(error, BrokenPipeError)
        if known or (error.strerror and not getattr(error, "log", None)):
            return write_error(error, path)
    return OutputError(reason(error), path=path)


def check_input(path: str) -> None:
    """Refuse what is not a readable regular file (a FIFO without a writer would block for ever).

    Raises:
        UsageError: a directory, a FIFO, a device or a socket.
        MediaError: missing, empty, unreadable, or a broken link.
    """
    if parse(path).protocols == "pipe":
        if path == STDIN and (sys.stdin is None or sys.stdin.closed):
            raise UsageError("standard input is closed")
        return
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise MediaError(getattr(error, "strerror", None) or str(error), path=path) from None
    if stat.S_ISDIR(found.st_mode):
        raise UsageError("is a directory", path=path)
    if not stat.S_ISREG(found.st_mode):
        raise UsageError("not a regular file", path=path)
    if not found.st_size:
        raise MediaError("the file is empty", path=path)


def open_input(path: str, options: Options = DEFAULTS, *, stills: bool = False) -> InputContainer:
    """Open a local file, standard input ("-"), a URL or a device, with every limit in place.

    Args:
        path: see `upscale.media.input.address`.
        options: `timeout` and `input_options` are for URLs and devices; `trust_input` lifts the lists of
            formats and codecs, but for what leads to further files. Other limits stay.
        stills: take still pictures, too.

    Raises:
        UsageError: not a regular file, or a still picture that is not wanted.
        MediaError: FFmpeg cannot read it, with FFmpeg's own reason; it is encrypted; no data came in time.
    """
    address = parse(path)
    if not address.live:
        check_input(path)
    settings = {
        **dict(address.options),
        **(options.input_options if address.live else {}),
        # PyAV asks for pts made of the next packet's dts, which is wrong where there are B-frames.
        "fflags": "-genpts",
        "protocol_whitelist": address.protocols,
        "format_whitelist": _formats(address, options),
        **_decoder_limits(options),
    }
    limits = (options.timeout, options.timeout) if address.live else None
    begun = time.monotonic()
    with ffmpeg_reasons():
        try:
            demuxer = address.device or _by_name(address)
            container = av.open(address.url, format=demuxer, options=settings, timeout=limits, **TAGS)
        except (av.FFmpegError, OSError, ValueError) as error:
            # An RTSP answer that does not come is "invalid data" to FFmpeg.
            late = isinstance(error, av.InvalidDataError) and time.monotonic() - begun >= options.timeout
            if address.live and (late or isinstance(error, av.ExitError)):
                raise MediaError(silence(options.timeout), path=path) from None
            raise _open_error(error, address) from None
    if container.format.name in STILL_FORMATS and not stills:
        container.close()
        named = picture_format(path) is not None
        hint = "" if named else "; a picture needs a name that says so, such as photo.png"
        raise UsageError(f"a still picture, not a video{hint}", path=path)
    if container.format.name == "asf" and "ASF_Protection_Type" in container.metadata:
        container.close()
        raise MediaError(ENCRYPTED, path=path)
    for stream in container.streams:
        limit_decoder(stream, options)
    return container


def _formats(address: Address, options: Options) -> str:
    """The demuxers that may be used, comma separated."""
    if address.device:
        return address.device
    if not options.trust_input:
        return ",".join(filter(None, (_FORMATS, address.formats)))
    trusted = sorted(name for name in av.formats_available if not _REACH_OUT & {*name.split(",")})
    return ",".join([*trusted, *filter(None, [address.formats])])


def _decoder_limits(options: Options) -> dict[str, str]:
    """Options of demuxers and decoders alike."""
    limits = {"max_pixels": str(MAX_PIXELS)}
    return limits if options.trust_input else {**limits, "codec_whitelist": _CODECS}


def _by_name(address: Address) -> str | None:
    """The demuxer of a file whose name alone would make FFmpeg take one that is not allowed.

    Of a JPEG that is larger than the first probe jpeg_pipe is not sure, and image2 goes by the name.
    """
    is_jpeg = not address.live and address.url.lower().endswith((".jpg", ".jpeg"))
    return "jpeg_pipe" if is_jpeg else None


def silence(timeout: float) -> str:
    """What to say when a URL or a device gave nothing for `timeout` seconds."""
    return f"no data for {timeout:g} s"


def _open_error(error: BaseException, address: Address) -> MediaError:
    if isinstance(error, av.ProtocolNotFoundError) and address.live:
        return MediaError(f"this FFmpeg cannot read {address.url.partition(':')[0]}", path=address.text)
    if address.device is not None and address.device not in av.formats_available:
        return MediaError(f"this FFmpeg has no {address.device} devices", path=address.text)
    return media_error(error, address.text)


def limit_decoder(stream: Stream, options: Options) -> None:
    """Put the limits on a stream's decoder; must run before its first packet is decoded."""
    context: Any = stream.codec_context
    if context is None:  # unknown codec
        return
    context.options = _decoder_limits(options)
    if stream.type == "video":
        # Where the stream says nothing, 4:2:0 chroma is sited as MPEG-2, H.264 and HEVC do. Decoders
        # that know better (MPEG-1, JPEG: centre; an explicit tag) overwrite it.
        context.options = {**context.options, "chroma_sample_location": "left"}
