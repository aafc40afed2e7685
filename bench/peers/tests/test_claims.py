"""Whether rows hold what is asked, on made-up rows."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
sys.path.insert(0, str(HERE.parent))

import cases  # noqa: E402
import claims  # noqa: E402
import run  # noqa: E402

SHAPES = ((4096, 4096), (5120, 2880))
SIZES = (1, 64, 256, 4096)


def made_up(ours: float = 1.0, peers: float = 1.2, shapes=SHAPES, sizes=SIZES) -> list[dict]:
    """Rows in which every cell takes `ours` or `peers` microseconds for each row of activations."""
    rows = []
    for n, k in shapes:
        for m in sizes:
            for claim in claims.CLAIMS:
                weights = cases.fitted(claim.weights, n, k)
                if weights is None:
                    continue
                for name in (claims.OWN, *claim.peers_at(n, k)):
                    us = m * (ours if name == claims.OWN else peers)
                    rows.append(row(n, k, m, weights, claim.activations, name, us))
            rows.append(row(n, k, m, "bf16", "bf16", "cublas", m * peers))
    return rows


def row(n: int, k: int, m: int, weights: str, activations: str, name: str, us: float, error: float = 2e-3) -> dict:
    case = {"n": n, "k": k, "m": m, "weights": weights, "activations": activations}
    return {**case, "impl": name, "us": us, "floor_us": 1.0, "error": error}


def change(rows: list[dict], change_: dict, **which: object) -> list[dict]:
    """The rows with `change_` where all of `which` is so; at least one."""
    hits = [all(r[key] == value for key, value in which.items()) for r in rows]
    assert any(hits)
    return [r | change_ if hit else r for r, hit in zip(rows, hits)]


def without(rows: list[dict], **which: object) -> list[dict]:
    left = [r for r in rows if not all(r[key] == value for key, value in which.items())]
    assert len(left) < len(rows)
    return left


def judged(rows: list[dict]) -> claims.Verdict:
    return claims.judge(rows, SHAPES, SIZES)


def test_what_is_asked_is_what_can_be_run():
    shapes, sizes = cases.load_shapes()
    assert set(claims.SHAPES) <= {(shape.n, shape.k) for shape in shapes} and set(claims.SIZES) <= set(sizes)
    for claim in claims.CLAIMS:
        assert (claim.weights, claim.activations) in cases.FORMATS
        assert set(claim.peers) < set(run.IMPLEMENTATIONS)


def test_everything_is_there_and_fast():
    verdict = judged(made_up())
    assert verdict.holds, "\n".join(verdict.lines)
    assert verdict.ranges == 4 * len(claims.CLAIMS)
    assert verdict.summary() == "36 of 36 ranges hold; 0 cells too slow, 0 wrong, 0 missing"
    line = next(line for line in verdict.lines if "int4 x bf16" in line)
    assert line == "ok   int4 x bf16            M 1-16       mean 1.200 of 1.15 asked, least 1.200 at 4096x4096 M=1, 2 of 2 cells complete"


def test_a_mean_too_small():
    verdict = judged(made_up(peers=1.12))  # above what is asked of FP8, and of all from M = 256
    assert not verdict.holds and verdict.slow == verdict.missing == verdict.wrong == 0
    four_bits = ("int4 x bf16", "mxfp4 x bf16", "mxfp4 x fp8tok", "int4 x fp8tok", "int4 x int8tok", "fp8row x bf16")
    assert set(verdict.below) == {f"{name} {label}" for name in four_bits for label in ("M 1-16", "M 32-128")}


def test_the_mean_is_geometric_over_both_group_sizes():
    rows = change(made_up(), {"us": 1.2 / 1.5}, n=5120, m=1, weights="int4g64", activations="bf16", impl=claims.OWN)
    line = next(line for line in judged(rows).lines if "int4 x bf16" in line and "M 1-16" in line)
    assert f"mean {(1.2 * 1.5) ** 0.5:.3f} of 1.15" in line


def test_the_fastest_peer_counts():
    rows = change(made_up(), {"us": 0.94}, n=4096, m=1, weights="mxfp4", activations="bf16", impl="marlin")
    verdict = judged(rows)
    assert verdict.slow == 1 and verdict.below == ["mxfp4 x bf16 M 1-16"]
    assert "FAIL mxfp4 x bf16 4096x4096 M=1: 1.00 us, marlin 0.94: 0.940 of 0.95 asked" in verdict.lines


def test_one_slow_cell_in_a_good_range():
    rows = change(made_up(peers=3.0), {"us": 1.2 * 256}, n=4096, m=256, weights="fp8row", activations="bf16", impl="humming")
    rows = change(rows, {"us": 1.3 * 256}, n=4096, m=256, weights="fp8row", activations="bf16", impl=claims.OWN)
    verdict = judged(rows)
    assert not verdict.below and verdict.slow == 1 and not verdict.holds


@pytest.mark.parametrize(
    "which, text",
    [
        ({"impl": "machete"}, "missing: machete int4g128/bf16: 4096x4096 every M"),
        ({"impl": "deepgemm", "m": 64}, "missing: deepgemm fp8block/fp8g128: 4096x4096 M=64"),
        (
            {"impl": claims.OWN, "weights": "int4g64", "activations": "int8tok", "m": 1},
            "missing: sabrewing int4g64/int8tok: 5120x2880 M=1",
        ),
        ({"impl": "cublas", "weights": "bf16", "m": 4096}, "missing: cublas bf16/bf16: 4096x4096 M=4096, 5120x2880 M=4096"),
    ],
)
def test_what_is_missing_is_named_and_not_passed(which, text):
    verdict = judged(without(made_up(), **which))
    assert not verdict.holds and f"FAIL {text}" in verdict.lines
    assert [line for line in verdict.lines if "missing" in line] == [f"FAIL {text}"]
    assert verdict.missing == {"machete": 4, "deepgemm": 1, claims.OWN: 1, "cublas": 2}[which["impl"]]


def test_peers_without_a_kernel_for_the_shape_are_not_missing():
    assert claims.CLAIMS[0].peers_at(2880, 4096) == ("humming", "marlin")
    assert claims.CLAIMS[0].peers_at(5120, 2880) == ("humming", "marlin")
    assert claims.CLAIMS[0].peers_at(5120, 4096) == ("humming", "marlin", "machete")
    w4a8 = next(claim for claim in claims.CLAIMS if "cutlass_w4a8" in claim.peers)
    assert w4a8.peers_at(2880, 4096) == w4a8.peers and w4a8.peers_at(5120, 2880) == ("humming",)


def test_nothing_holds_without_rows():
    verdict = claims.judge([])
    assert not verdict.holds and len(verdict.below) == verdict.ranges == 36
    assert not claims.judge(made_up(), shapes=()).holds


@pytest.mark.parametrize("error", [float("nan"), 0.02])
def test_a_wrong_product_does_not_count(error):
    rows = change(made_up(), {"error": error}, n=4096, m=64, weights="mxfp4", activations="fp8tok", impl=claims.OWN)
    verdict = judged(rows)
    assert not verdict.holds and verdict.wrong == 1 and verdict.missing == 1
    assert verdict.below == ["mxfp4 x fp8tok M 32-128"]
    # The peer that rounds its scales counts, one that computes something else does not.
    rows = change(made_up(), {"error": error}, m=64, activations="fp8tok", impl="cutlass_w4a8")
    assert judged(rows).holds == (error == 0.02)


def test_four_bits_beside_bf16_where_arithmetic_binds():
    rows = change(made_up(), {"us": 0.96 * 256}, n=5120, m=256, weights="bf16", impl="cublas")
    verdict = judged(rows)
    assert verdict.slow == 2 and not verdict.below  # int4 and MXFP4
    assert any("int4g64 x bf16 5120x2880 M=256: 256.00 us, cublas in BF16 245.76" in line for line in verdict.lines)
    assert judged(change(made_up(), {"us": 0.5 * 64}, n=5120, m=64, weights="bf16", impl="cublas")).holds


def test_four_bits_beside_fp8_at_few_rows():
    rows = change(made_up(), {"us": 0.8}, n=4096, m=1, impl=claims.OWN, weights="fp8tensor")
    rows = change(rows, {"us": 0.9}, n=4096, m=1, impl="cublas", weights="fp8tensor")
    verdict = judged(rows)
    assert verdict.slow == 1 and not verdict.below
    assert any(line.startswith("FAIL 4-bit weights 4096x4096 M=1: 1.00 us") for line in verdict.lines)
    # Any activations do.
    assert judged(change(rows, {"us": 0.7}, n=4096, m=1, impl=claims.OWN, weights="mxfp4", activations="fp8tok")).holds


def gpu_claims(*arguments: object) -> subprocess.CompletedProcess[str]:
    script = REPOSITORY / "tests" / "acceptance" / "gpu_claims.py"
    return subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_files_are_merged(tmp_path):
    for shape in SHAPES:
        (tmp_path / f"{shape[0]}.json").write_text(json.dumps({"rows": made_up(shapes=[shape])}))
    asked = ["--shapes", "4096x4096,5120x2880", "--m", ",".join(map(str, SIZES))]
    first, second = tmp_path / "4096.json", tmp_path / "5120.json"
    both = gpu_claims("peers", first, second, *asked)
    assert both.returncode == 0, both.stdout
    assert both.stdout.splitlines()[-1] == "36 of 36 ranges hold; 0 cells too slow, 0 wrong, 0 missing"
    one = gpu_claims("peers", first, *asked)
    assert one.returncode == 1 and "missing: humming int4g64/bf16: 5120x2880 every M" in one.stdout
    assert gpu_claims("peers", first, "--shapes", "4096x4096", "--m", "1,64,256,4096").returncode == 0
    assert gpu_claims("peers", first, second).returncode == 1  # the whole of what is asked
    assert gpu_claims("peers", first, "--shapes", "4096").returncode == 2
    assert "none.json" in gpu_claims("peers", tmp_path / "none.json").stdout.splitlines()[-1]
    assert gpu_claims("peers").returncode == 2
