"""What is asked of this repository's kernels beside their peers, and whether rows of run.py show it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import cases
import tables

OWN = "sabrewing"
SHAPES = ((4096, 4096), (8192, 8192), (8192, 28672), (28672, 8192), (5120, 2880), (2880, 4096))
SIZES = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
LEAST_RATIO = 0.95
LEAST_BESIDE_BF16 = 0.97  # 4-bit weights beside cuBLAS in BF16, from M = 256
LARGEST_ERROR = 5e-3  # of our products, Frobenius, BF16 output
LARGEST_PEER_ERROR = 6e-2  # a peer beyond it computes something else; cutlass_w4a8 rounds its scales: 3.4e-2
FEW_ROWS = 64  # up to here 4-bit weights are to beat FP8 ones
FP8 = (("fp8row", "fp8tok"), ("fp8tensor", "fp8tensor"), ("fp8block", "fp8g128"))

Cell = tuple[int, int, int, str, str]  # N, K, M, weights, activations
Times = dict[tuple[Cell, str], tables.Row]


@dataclasses.dataclass(frozen=True)
class Claim:
    """Geometric means over shapes and sizes of (fastest peer's time) / (ours) that are asked, by range of M of tables.BUCKETS."""

    weights: str  # int4g128 stands for int4g64 where 128 does not divide K
    activations: str
    peers: tuple[str, ...]
    asked: tuple[float, float, float, float]

    def peers_at(self, n: int, k: int) -> tuple[str, ...]:
        """Those that have kernels for the shape."""
        out = self.peers
        if self.weights == "int4g128" and k % 128:
            out = tuple(peer for peer in out if peer not in ("machete", "cutlass_w4a8"))
        return tuple(peer for peer in out if peer != "machete" or n % 128 == 0)


CLAIMS = (
    Claim("int4g128", "bf16", ("humming", "marlin", "machete"), (1.15, 1.15, 1.05, 1.00)),
    Claim("mxfp4", "bf16", ("humming", "marlin"), (1.15, 1.15, 1.05, 1.00)),
    Claim("mxfp4", "fp8tok", ("humming",), (1.15, 1.15, 1.10, 1.05)),
    Claim("int4g128", "fp8tok", ("humming", "cutlass_w4a8"), (1.15, 1.15, 1.05, 1.00)),
    Claim("int4g128", "int8tok", ("humming", "marlin"), (1.15, 1.15, 1.05, 1.00)),
    Claim("fp8row", "fp8tok", ("cublas", "cutlass_fp8", "humming"), (1.05, 1.05, 0.97, 0.97)),
    Claim("fp8tensor", "fp8tensor", ("cublas", "cutlass_fp8"), (1.05, 1.05, 0.97, 0.97)),
    Claim("fp8block", "fp8g128", ("cutlass_fp8", "deepgemm", "humming"), (1.05, 1.05, 0.97, 0.97)),
    Claim("fp8row", "bf16", ("humming", "marlin"), (1.15, 1.15, 1.05, 1.00)),
)


@dataclasses.dataclass
class Verdict:
    """Lines for people, and the figures of the last one."""

    lines: list[str] = dataclasses.field(default_factory=list)
    ranges: int = 0
    below: list[str] = dataclasses.field(default_factory=list)  # ranges whose mean is too small
    slow: int = 0  # cells
    wrong: int = 0  # cells of ours
    missing: int = 0  # cells

    @property
    def holds(self) -> bool:
        return self.ranges > 0 and not (self.below or self.slow or self.wrong or self.missing)

    def summary(self) -> str:
        text = f"{self.ranges - len(self.below)} of {self.ranges} ranges hold"
        if self.below:
            text += f", not {', '.join(self.below)}"
        return text + f"; {self.slow} cells too slow, {self.wrong} wrong, {self.missing} missing"


def _where(n: int, k: int, m: int) -> str:
    return f"{n}x{k} M={m}"


class _Judge:
    def __init__(
        self, rows: Iterable[tables.Row], shapes: Iterable[tuple[int, int]], sizes: Iterable[int]
    ) -> None:
        self.shapes, self.sizes = tuple(shapes), frozenset(sizes)
        self.verdict = Verdict()
        self.times: Times = {}
        self.absent: dict[str, dict[str, list[int]]] = {}  # what is missing -> shape -> sizes
        for row in rows:
            cell = (row["n"], row["k"], row["m"], row["weights"], row["activations"])
            error = row.get("error", math.nan)
            own = row["impl"] == OWN
            if error <= (LARGEST_ERROR if own else LARGEST_PEER_ERROR):  # false for NaN
                self.times[cell, row["impl"]] = row
            elif own:
                self.verdict.wrong += 1
                self.verdict.lines.append(f"FAIL {'/'.join(cell[3:])} {_where(*cell[:3])}: wrong: error {error:.3g}")
            else:
                self.verdict.lines.append(
                    f"not counted: {row['impl']} {'/'.join(cell[3:])} {_where(*cell[:3])}: error {error:.3g}"
                )

    def us(self, cell: Cell, name: str) -> float | None:
        """The time; a missing one is noted."""
        row = self.times.get((cell, name))
        if row is not None:
            return float(row["us"])
        where = f"{name} {'/'.join(cell[3:])}"
        sizes = self.absent.setdefault(where, {}).setdefault(f"{cell[0]}x{cell[1]}", [])
        if cell[2] not in sizes:
            sizes.append(cell[2])
            self.verdict.missing += 1
        return None

    def cell(self, claim: Claim, n: int, k: int, m: int) -> Cell | None:
        weights = cases.fitted(claim.weights, n, k)
        if weights is None or not cases.activations_fit(claim.activations, k):
            return None
        return n, k, m, weights, claim.activations

    def claim(self, claim: Claim) -> None:
        name = f"{'int4' if claim.weights == 'int4g128' else claim.weights} x {claim.activations}"
        for (label, low, high), asked in zip(tables.BUCKETS, claim.asked):
            cells = [
                cell
                for n, k in self.shapes
                for m in sorted(self.sizes)
                if low <= m <= high and (cell := self.cell(claim, n, k, m)) is not None
            ]
            if not cells:
                continue
            found: list[tuple[float, str]] = []
            complete = 0
            for cell in cells:
                ours = self.us(cell, OWN)
                peers = [(self.us(cell, peer), peer) for peer in claim.peers_at(cell[0], cell[1])]
                times = [(us, peer) for us, peer in peers if us is not None]
                complete += ours is not None and len(times) == len(peers)
                if ours is None or not times:
                    continue
                fastest, peer = min(times)
                found.append((fastest / ours, _where(*cell[:3])))
                if fastest / ours < LEAST_RATIO:
                    self.verdict.slow += 1
                    self.verdict.lines.append(
                        f"FAIL {name} {found[-1][1]}: {ours:.2f} us, {peer} {fastest:.2f}: {fastest / ours:.3f} of "
                        f"{LEAST_RATIO} asked"
                    )
            self.verdict.ranges += 1
            mean = math.exp(sum(math.log(ratio) for ratio, _ in found) / len(found)) if found else math.nan
            good = mean >= asked and complete == len(cells)
            if not good:
                self.verdict.below.append(f"{name} {label}")
            least, where = min(found, default=(math.nan, "nowhere"))
            self.verdict.lines.append(
                f"{'ok  ' if good else 'FAIL'} {name:22} {label:12} mean {mean:.3f} of {asked:.2f} asked, "
                f"least {least:.3f} at {where}, {complete} of {len(cells)} cells complete"
            )

    def beside_bf16(self) -> None:
        """4-bit weights beside cuBLAS in BF16 where both are bound by arithmetic."""
        for weights in ("int4g128", "mxfp4"):
            for n, k in self.shapes:
                for m in sorted(m for m in self.sizes if m >= 256):
                    fitted = cases.fitted(weights, n, k)
                    if fitted is None:
                        continue
                    ours = self.us((n, k, m, fitted, "bf16"), OWN)
                    cublas = self.us((n, k, m, "bf16", "bf16"), "cublas")
                    if ours is not None and cublas is not None and cublas / ours < LEAST_BESIDE_BF16:
                        self.verdict.slow += 1
                        self.verdict.lines.append(
                            f"FAIL {fitted} x bf16 {_where(n, k, m)}: {ours:.2f} us, cublas in BF16 {cublas:.2f}: "
                            f"{cublas / ours:.3f} of {LEAST_BESIDE_BF16} asked"
                        )

    def beside_fp8(self) -> None:
        """Our best kernel with 4-bit weights beside the fastest FP8 by FP8 kernel of a peer at few rows."""
        claims = [claim for claim in CLAIMS if (claim.weights, claim.activations) in FP8]
        for n, k in self.shapes:
            for m in sorted(m for m in self.sizes if m <= FEW_ROWS):
                ours = [
                    (float(row["us"]), "/".join(cell[3:]))
                    for (cell, name), row in self.times.items()
                    if name == OWN and cell[:3] == (n, k, m) and cell[3].startswith(("int4", "mxfp4"))
                ]
                peers = [
                    (us, f"{peer} {'/'.join(cell[3:])}")
                    for claim in claims
                    if (cell := self.cell(claim, n, k, m)) is not None
                    for peer in claim.peers_at(n, k)
                    if (us := self.us(cell, peer)) is not None
                ]
                if not ours:
                    self.us((n, k, m, "4 bits", "any"), OWN)
                elif peers and min(ours) >= min(peers):
                    self.verdict.slow += 1
                    self.verdict.lines.append(
                        f"FAIL 4-bit weights {_where(n, k, m)}: {min(ours)[0]:.2f} us ({min(ours)[1]}), FP8 "
                        f"{min(peers)[0]:.2f} ({min(peers)[1]})"
                    )

    def name_missing(self) -> None:
        for where, found in self.absent.items():
            cells = ", ".join(
                f"{shape} {'every M' if len(sizes) == len(self.sizes) else 'M=' + ','.join(map(str, sorted(sizes)))}"
                for shape, sizes in found.items()
            )
            self.verdict.lines.append(f"FAIL missing: {where}: {cells}")


def judge(
    rows: Iterable[tables.Row],
    shapes: Iterable[tuple[int, int]] = SHAPES,
    sizes: Iterable[int] = SIZES,
) -> Verdict:
    """Holds rows against every claim at these shapes and numbers of rows. A cell without our time or that of a peer
    that has the kernel is missing, and its range then does not hold."""
    judge_ = _Judge(rows, shapes, sizes)
    for claim in CLAIMS:
        judge_.claim(claim)
    judge_.beside_bf16()
    judge_.beside_fp8()
    judge_.name_missing()
    return judge_.verdict
