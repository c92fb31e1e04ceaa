"""Tags of the container and of each stream, carried from one container's habits to another's."""

from __future__ import annotations

from collections.abc import Mapping

from upscale.media.plan import FILE_TAGS

_MOV_FAMILY = frozenset({"mp4", "mov", "3gp", "3g2"})
#: Tags that describe the old packets; muxers write their own.
_STREAM_STATISTICS = ("BPS", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS_", "DURATION", "SOURCE_ID")
#: Names that the mov muxer gives when there is none.
_DEFAULT_HANDLERS = frozenset({"VideoHandler", "SoundHandler", "SubtitleHandler", "DataHandler"})
#: What the mp4 muxer stores as iTunes atoms; everything else needs `use_metadata_tags`.
_MP4_TAGS = frozenset(
    "title artist author album_artist composer album date comment genre copyright grouping lyrics "
    "description synopsis show episode_id network keywords episode_sort season_number media_type hd_video "
    "gapless_playback compilation track disc rating account_type sort_name sort_artist sort_album "
    "sort_album_artist sort_composer sort_show podcast category episode_uid purchase_date tempo "
    "creation_time encoder location location-eng language timecode".split()
)


def container_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The container's tags without those that describe the old file."""
    return {k: v for k, v in tags.items() if k.lower() not in FILE_TAGS}


def needs_custom_tags(container: str, tags: Mapping[str, str]) -> bool:
    """True if a mov family container loses one of the tags unless it writes QuickTime keys."""
    return container in _MOV_FAMILY and any(k.lower() not in _MP4_TAGS for k in tags)


def stream_tags(tags: Mapping[str, str], container: str, *, encoded: bool) -> dict[str, str]:
    """Tags of one stream for an output container.

    mp4 calls a track's title "name" when reading and drops a tag of that name when writing.

    Args:
        tags: of the input stream.
        container: muxer name of the output.
        encoded: the stream is encoded anew, so that its encoder and statistics are history.
    """
    result: dict[str, str] = {}
    for key, value in tags.items():
        upper = key.upper()
        if upper.startswith("DURATION") or (encoded and upper.startswith(_STREAM_STATISTICS)):
            continue
        if encoded and upper == "ENCODER":
            continue
        if container not in _MOV_FAMILY and (upper == "VENDOR_ID" or value in _DEFAULT_HANDLERS):
            continue
        result[key] = value
    name = result.pop("name", None)
    if name is not None and not any(k.lower() == "title" for k in result):
        result["title"] = name
    return result
