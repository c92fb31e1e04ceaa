"""Times of packets: written down exactly, and joined as one encoder would have set them."""

from __future__ import annotations

import random

import pytest

from upscale.media.output.times import PacketTimes, pack, restamp, unpack


@pytest.mark.parametrize(
    "values", [[], [7], [0, 40, 80, 120], [-3, 5, 1, 1, 9], [0, 512, -1024, 3], list(range(0, 60000, 100))]
)
def test_what_is_packed_comes_back(values: list[int]) -> None:
    assert unpack(pack(values)) == tuple(values)


def test_constant_steps_take_no_room() -> None:
    assert pack(range(0, 300_000, 500)) == "0 500*599"


@pytest.mark.parametrize("text", ["a", "1*x", "5**2", "1.5"])
def test_nonsense_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        unpack(text)


def part(pts: list[int], dts: list[int | None] | None = None) -> PacketTimes:
    return PacketTimes.measured(pts, dts or [None] * len(pts), [1] * len(pts))


def test_the_encoders_lead_is_taken_from_its_decoding_times() -> None:
    assert part([0, 2, 1, 3]).reorder == 1
    assert part([0, 2, 1, 3], [-2, -1, 0, 1]).reorder == 2
    assert part([0, 1, 2], [-1, 0, 1]).reorder == 1


def test_parts_get_the_decoding_times_of_one_encoder() -> None:
    """x264's own: the time of the frame shown two places before, and a lead of two at the beginning."""
    parts = [part([0, 30, 10, 20, 40]), part([50, 80, 60, 70])]
    got = list(restamp(parts, 2))
    assert [dts for _, dts, _ in got] == [-20, -10, 0, 10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize("seed", range(20))
def test_decoding_times_rise_and_never_pass_presentation(seed: int) -> None:
    rng = random.Random(seed)
    parts, at = [], rng.randint(-100, 100)
    for _ in range(rng.randint(1, 6)):
        shown = []
        for _ in range(rng.randint(1, 9)):
            shown.append(at)
            at += rng.choice([1, 1, 2, 40, 1000])
        order = sorted(range(len(shown)), key=lambda n: n + rng.randint(0, 3))
        parts.append(part([shown[n] for n in order]))
    got = list(restamp(parts, max(p.reorder for p in parts)))
    assert [pts for pts, _, _ in got] == [pts for p in parts for pts in p.pts]
    decoding = [dts for _, dts, _ in got]
    assert decoding == sorted(set(decoding))
    assert all(dts <= pts for pts, dts, _ in got)


def test_a_stream_shorter_than_the_lead() -> None:
    got = list(restamp([PacketTimes((5,), (40,), 2)], 2))
    assert [(pts, duration) for pts, _, duration in got] == [(5, 40)]
    assert got[0][1] < 5


def test_parts_that_collide_are_moved_apart_as_in_one_run() -> None:
    """Where the encoder's ticks are coarser than the input's, two frames can fall on one tick."""
    got = list(restamp([part([0, 1, 2]), part([2, 3, 9])], 0))
    assert [pts for pts, _, _ in got] == [0, 1, 2, 3, 4, 9]
