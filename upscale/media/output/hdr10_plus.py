"""HDR10+ (SMPTE ST 2094-40): from the side data of a frame into the HEVC packet that shows it.

x265 takes it only from a file that describes the whole film (`dhdr10-info`), and the x265 of the PyAV wheels
is built without even that. So the message is put into the encoder's packets here, as what it is in HEVC: a
prefix SEI with ITU-T T.35 data.

Sources: `AVDynamicHDRPlus` and `av_dynamic_hdr_plus_to_t35` of FFmpeg; CTA-861-H, annex S; ITU-T H.265, D.2.6
"""

from __future__ import annotations

import re
import struct

#: Size of `AVDynamicHDRPlus` and of its `AVHDRPlusColorTransformParams`; where the parts of the former begin.
_SIZE, _WINDOW = 11304, 428
_LUMINANCE, _TARGETED, _MASTERING = 1288, 1296, 6300
#: United States; Samsung; ST 2094-40; application 4.
_T35 = b"\xb5\x00\x3c\x00\x01\x04"

_START_CODE = re.compile(b"\0\0\1")
_FIRST_NO_PICTURE = 32  # NAL unit types below are slices


def to_t35(data: bytes) -> bytes | None:
    """The ITU-T T.35 message for an `AVDynamicHDRPlus`; None for a structure that is not the known one."""
    if len(data) != _SIZE or not 1 <= data[2] <= 3:
        return None
    windows = [4 + n * _WINDOW for n in range(data[2])]
    bits = [_bits(data[1], 8), _bits(len(windows), 2)]
    for at in windows[1:]:
        bits += [_ratio(data, at + n, 1, 16) for n in (0, 8, 16, 24)]
        x, y, angle, *axes, overlap = struct.unpack_from("<2HBx3Hi", data, at + 32)
        bits += [
            _bits(x, 16),
            _bits(y, 16),
            _bits(angle, 8),
            *(_bits(a, 16) for a in axes),
            _bits(overlap, 1),
        ]
    bits += [_ratio(data, _LUMINANCE, 1, 27), _peaks(data, _TARGETED)]
    for at in windows:
        bits += [_ratio(data, at + n, 100_000, 17) for n in (48, 56, 64, 72)]
        bits.append(_bits(data[at + 80], 4))
        for n in range(data[at + 80]):
            place = at + 84 + 12 * n
            bits += [_bits(data[place], 7), _ratio(data, place + 4, 100_000, 17)]
        bits.append(_ratio(data, at + 264, 1000, 10))
    bits.append(_peaks(data, _MASTERING))
    for at in windows:
        bits.append(_bits(data[at + 272], 1))
        if data[at + 272]:
            bits += [_ratio(data, at + 276, 4095, 12), _ratio(data, at + 284, 4095, 12)]
            bits.append(_bits(data[at + 292], 4))
            bits += [_ratio(data, at + 296 + 8 * n, 1023, 10) for n in range(data[at + 292])]
        bits.append(_bits(data[at + 416], 1))
        if data[at + 416]:
            bits.append(_ratio(data, at + 420, 8, 6))
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return _T35 + int(text, 2).to_bytes(len(text) // 8, "big")


def insert(packet: bytes, message: bytes) -> bytes:
    """An HEVC packet in Annex B form with a T.35 message before its first slice.

    Args:
        packet: of libx265.
        message: of `to_t35`.
    """
    size = b"\xff" * (len(message) // 255) + bytes([len(message) % 255])
    body = b"\x04" + size + message + b"\x80"
    nal = b"\0\0\0\1\x4e\x01" + re.sub(b"\0\0(?=[\0-\3])", b"\0\0\3", body)
    for found in _START_CODE.finditer(packet):
        if packet[found.end()] >> 1 & 63 < _FIRST_NO_PICTURE:
            at = found.start() - (packet[found.start() - 1 : found.start()] == b"\0")
            return packet[:at] + nal + packet[at:]
    return packet


def _bits(value: int, count: int) -> str:
    return f"{value & ((1 << count) - 1):0{count}b}"


def _ratio(data: bytes, at: int, unit: int, count: int) -> str:
    """An `AVRational` in multiples of 1/unit."""
    numerator, denominator = struct.unpack_from("<2i", data, at)
    return _bits(numerator * unit // denominator if denominator else 0, count)


def _peaks(data: bytes, at: int) -> str:
    """A table of peak luminances with its flag: 25 x 25 `AVRational`, of which rows x columns are used."""
    flag, rows, columns = data[at : at + 3]
    if not flag:
        return "0"
    cells = [
        _ratio(data, at + 4 + 8 * (25 * row + column), 15, 4)
        for row in range(rows)
        for column in range(columns)
    ]
    return "1" + _bits(rows, 5) + _bits(columns, 5) + "".join(cells)
