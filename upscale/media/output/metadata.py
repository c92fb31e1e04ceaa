"""Tags of the container and of each stream, carried from one container's habits to another's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from upscale.media.output.formats import Container

#: Container tags that describe the old file, not the film (the last three lines: those of flv).
_OLD_FILE = frozenset(
    "encoder major_brand minor_version compatible_brands duration "
    "videocodecid videodatarate framerate width height audiocodecid audiodatarate audiosamplerate "
    "audiosamplesize stereo filesize datasize videosize audiosize lasttimestamp lastkeyframetimestamp "
    "hasmetadata hasvideo hasaudio haskeyframes hascuepoints canseektoend".split()
)
_MOV_FAMILY = frozenset({"mp4", "mov", "3gp", "3g2"})
#: Tags that describe the old packets; muxers write their own.
_STREAM_STATISTICS = ("BPS", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS_", "DURATION", "SOURCE_ID")
#: Tags of streams that are technical, or that every output gets from elsewhere.
_NO_LOSS = frozenset(
    "language title name handler_name vendor_id encoder creation_time rotate stereo_mode alpha_mode "
    "filename mimetype".split()
)
#: Names that the mov muxer gives when there is none.
_DEFAULT_HANDLERS = frozenset({"VideoHandler", "SoundHandler", "SubtitleHandler", "DataHandler"})
#: What the mp4 muxer stores as iTunes atoms; everything else needs `use_metadata_tags`.
_MP4_TAGS = frozenset(
    "title artist album_artist composer album date comment genre copyright grouping lyrics description "
    "synopsis show episode_id network keywords episode_sort season_number media_type hd_video "
    "gapless_playback compilation track disc tmpo creation_time location location-eng timecode".split()
)
#: The languages of QuickTime; other codes cannot be stored in mov.
_MOV_LANGUAGES = frozenset(
    "eng fra ger ita dut sve spa dan por nor heb jpn ara fin gre ice mlt tur chi urd hin tha kor lit pol hun "
    "est lav rus iri alb ron ces slk slv yid mac bul ukr bel uzb kaz aze arm geo mol kir tgk tuk mon pus kur "
    "kas snd tib nep san mar ben asm guj ori mal kan tam tel bur khm lao vie ind tgl may amh tir orm som swa "
    "run mlg epo wel baq cat lat que grn aym tat uig dzo jav".split()
)
#: Other ISO 639-2 codes of the same languages.
_MOV_ALIASES = {
    "fre": "fra",
    "deu": "ger",
    "nld": "dut",
    "swe": "sve",
    "ell": "gre",
    "isl": "ice",
    "zho": "chi",
    "per": "iri",
    "fas": "iri",
    "sqi": "alb",
    "rum": "ron",
    "cze": "ces",
    "slo": "slk",
    "mkd": "mac",
    "hye": "arm",
    "kat": "geo",
    "bod": "tib",
    "mya": "bur",
    "msa": "may",
    "cym": "wel",
    "eus": "baq",
}


def language_for(container: str, language: str) -> str | None:
    """The code to write; None if the container has none for the language."""
    if container != "mov" or language == "und":
        return language
    code = _MOV_ALIASES.get(language, language)
    return code if code in _MOV_LANGUAGES else None


def utf8(text: str) -> str:
    """A tag that was not UTF-8 (PyAV gives its bytes as surrogates) read as Windows-1252, or else Latin-1.

    Old AVI, MOV and MP3 files do not say their encoding, and Matroska must hold UTF-8.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogateescape")
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError:
            return data.decode("latin-1")
    return text


def in_utf8(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags with `utf8` names and values."""
    return {utf8(k): utf8(v) for k, v in tags.items()}


def not_utf8(tags: Mapping[str, str]) -> list[str]:
    """Names of the tags that `utf8` changes."""
    return [utf8(k) for k, v in tags.items() if utf8(k) != k or utf8(v) != v]


def container_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The container's tags without those that describe the old file, in UTF-8.

    Of two equal creation times (FFmpeg 9 joins those of MP4's header and of its keys) one is kept.
    """
    return {
        utf8(k): utf8(v.partition(";")[0] if k.lower() == "creation_time" else v)
        for k, v in tags.items()
        if k.lower() not in _OLD_FILE and not (k.lower() == "software" and v.startswith("Lavf"))
    }


def lost_file_tags(container: Container, tags: Iterable[str]) -> list[str]:
    """Which of a file's tags (of `container_tags`) do not come back from this container."""
    lower = {t.lower(): t for t in tags}
    lost = [t for k, t in lower.items() if container.tags is not None and k not in container.tags]
    if container.name == "asf":
        lost += [lower[k] for k in ("creation_time",) if k in lower]
        # one place for both
        lost += [lower["comment"]] if {"comment", "description"} <= lower.keys() else []
    return lost


def lost_stream_tags(container: Container, tags: Mapping[str, str]) -> list[str]:
    """Which of a stream's tags, its language and title left out, do not come back from this container."""
    if container.stream_tags:
        return []
    has_timecode = container.name in _MOV_FAMILY or container.name == "mxf"
    return [
        k
        for k in tags
        if k.lower() not in _NO_LOSS
        and not k.upper().startswith(_STREAM_STATISTICS)
        and not (has_timecode and k.lower() == "timecode")
    ]


def needs_custom_tags(container: str, tags: Mapping[str, str]) -> bool:
    """True if a mov family container loses one of the tags unless it writes QuickTime keys."""
    return container in _MOV_FAMILY and any(k.lower() not in _MP4_TAGS for k in tags)


def stream_tags(tags: Mapping[str, str], container: str, *, encoded: bool) -> dict[str, str]:
    """Tags of one stream for an output container.

    mp4 calls a track's title "name" when reading and drops a tag of that name when writing.

    Args:
        tags: of the input stream.
        container: muxer name of the output.
        encoded: the stream is encoded again, so that its encoder, its statistics and what they said of
            transparency are history.
    """
    result: dict[str, str] = {}
    for key, value in tags.items():
        upper = key.upper()
        if upper.startswith("DURATION") or (encoded and upper.startswith(_STREAM_STATISTICS)):
            continue
        if encoded and upper in ("ENCODER", "ALPHA_MODE"):
            continue
        if container not in _MOV_FAMILY and (upper == "VENDOR_ID" or value in _DEFAULT_HANDLERS):
            continue
        result[utf8(key)] = utf8(value)
    language = result.pop("language", None)
    code = language_for(container, language) if language is not None else None
    if code is not None:
        result["language"] = code
    name = result.pop("name", None)
    if name is not None and not any(k.lower() == "title" for k in result):
        result["title"] = name
    return result
