"""Times calls inside CUDA graphs. Needs torch."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch

ROTATED_BYTES = 240e6  # four L2 caches
MAX_COPIES = 40
SPIN_CYCLES = 1_000_000  # the host queues every replay meanwhile
IDLE_S = 0.05


def copies_of(weight_bytes: int) -> int:
    """Copies of a weight that exceed four L2 caches."""
    return max(2, min(MAX_COPIES, math.ceil(ROTATED_BYTES / weight_bytes) + 1))


def calls_per_graph(copies: int, m: int, floor_us: float) -> int:
    """Few when a call is long, at least eight when it is short."""
    if floor_us > 600:
        return 1
    if m <= 256:
        return max(copies, 8)
    return min(copies, 8 if m <= 2048 else 4)


class Graph:
    """A captured sequence of calls, which it keeps alive."""

    def __init__(self, calls: list[Callable[[], None]]) -> None:
        self._calls = calls
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            calls[0]()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            for call in calls:
                call()

    def _replay(self, warm: int, count: int) -> list[float]:
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        torch.cuda._sleep(SPIN_CYCLES)
        for _ in range(warm):
            self._graph.replay()
        events[0].record()
        for i in range(count):
            self._graph.replay()
            events[i + 1].record()
        torch.cuda.synchronize()
        return [events[i].elapsed_time(events[i + 1]) * 1e3 / len(self._calls) for i in range(count)]

    def steady_us(self) -> float:
        """Median of 20 replays."""
        return statistics.median(self._replay(2, 20))

    def burst_us(self) -> list[float]:
        """Five replays after an idle pause, so that the clocks are not those which earlier work left behind."""
        time.sleep(IDLE_S)
        return self._replay(1, 5)


def time_together(graphs: list[Graph], bursts: bool) -> list[float]:
    """Microseconds of one call of each graph, the graphs taking turns.

    Steady: two medians of 20 replays, the lower one. Bursts: four of five replays, the median of the last two."""
    if not bursts:
        rounds = [[graph.steady_us() for graph in graphs] for _ in range(2)]
        return [min(times) for times in zip(*rounds)]
    rounds = [[graph.burst_us() for graph in graphs] for _ in range(4)]
    return [statistics.median(rounds[2][i] + rounds[3][i]) for i in range(len(graphs))]
