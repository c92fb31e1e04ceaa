"""How many frames per second the counts allow on small boards: an estimate, from data sheets.

Nothing here was measured on a board. A frame takes as long as its multiply-accumulates at the
board's peak times `EFFICIENCY`, or as its bytes at the memory's measured speed, whichever is longer.
"""

from __future__ import annotations

from dataclasses import dataclass

from upscale.model.complexity import complexity, frame_bytes
from upscale.model.config import GeneratorConfig


@dataclass(frozen=True, slots=True)
class Board:
    """Attributes:
    cores: of the processor, all used.
    clock: Hz.
    macs_per_cycle: of one core at its peak, by precision.
    bandwidth: bytes per second, read plus written, measured by others.
    """

    name: str
    cores: int
    clock: float
    macs_per_cycle: dict[str, int]
    bandwidth: float


# Cortex-A72: an FMLA of four floats takes both FP pipes, so one per cycle. There is no int8 dot product
# (SDOT), but SMLAL, eight products, on the one pipe that multiplies integers. As in LLVM's scheduling model
# of this core, AArch64SchedA57.td, after Arm's Software Optimization Guide. Memory: STREAM copy, 5.5 GB/s, as
# measured at sci-pi.org.uk/bench/stream.html.
_A72 = {"fp32": 4, "int8": 8}
# Cortex-A76: two 128-bit pipes, each takes an FMLA or an SDOT per cycle (AArch64SchedNeoverseN1.td). Memory:
# tinymembench copies 5.56 GB/s on the 8 GB board, 11.1 read and written (raspberrypi/firmware, issue 1876).
_A76 = {"fp32": 8, "int8": 32}

BOARDS = (
    Board("Raspberry Pi 4", 4, 1.8e9, _A72, 5.5e9),
    Board("Raspberry Pi 5", 4, 2.4e9, _A76, 11.1e9),
)

#: Share of a core's peak that LiteRT reached on x86 with the least efficient bundled model (fast; gan reaches
#: .81 and .76): 640×360 frames, one thread of a 3.65 GHz Zen 4 core with 16 fp32 and 64 int8 MACs per cycle.
EFFICIENCY = {"fp32": 0.72, "int8": 0.58}


@dataclass(frozen=True, slots=True)
class Estimate:
    """Attributes:
    fps: frames per second of the network alone, nothing else running.
    limit: "compute" or "memory", what it is bound by.
    """

    board: str
    precision: str
    fps: float
    limit: str


def estimates(config: GeneratorConfig, height: int, width: int) -> list[Estimate]:
    """For an input of height × width pixels, on every board in every precision."""
    s = config.scale
    macs = complexity(config).macs_per_frame(s * height, s * width)
    found = []
    for board in BOARDS:
        for precision, efficiency in EFFICIENCY.items():
            peak = board.cores * board.clock * board.macs_per_cycle[precision]
            compute = macs / (peak * efficiency)
            memory = frame_bytes(config, height, width, precision) / board.bandwidth
            limit = "compute" if compute >= memory else "memory"
            found.append(Estimate(board.name, precision, 1 / max(compute, memory), limit))
    return found
