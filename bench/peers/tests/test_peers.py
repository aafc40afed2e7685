"""What needs neither a GPU nor a peer: cases, floors, tables, plots, command line."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
ROWS = HERE / "data" / "rows.json"
sys.path[:0] = [str(HERE.parent), str(REPOSITORY / "scripts")]

import cases  # noqa: E402
import plot_kernels  # noqa: E402
import run  # noqa: E402
import tables  # noqa: E402


def test_shapes():
    shapes, sizes = cases.load_shapes()
    assert {"4096x4096", "8192x28672", "5120x2880"} <= {str(shape) for shape in shapes}
    assert sizes[0] == 1 and sizes == sorted(sizes)


def test_formats_that_do_not_fit():
    assert cases.fitted("int4g128", 4096, 4096) == "int4g128"
    assert cases.fitted("int4g128", 5120, 2880) == "int4g64"
    assert cases.fitted("int4g128", 64, 100) is None
    assert cases.fitted("fp8block", 5120, 2880) is None
    assert cases.fitted("fp8block", 4096, 4096) == "fp8block"
    assert cases.fitted("mxfp4", 64, 48) is None
    assert not cases.activations_fit("fp8g128", 2880) and cases.activations_fit("fp8tok", 2880)


def test_floors_by_hand():
    # 8.39 MB of nibbles, 0.52 MB of scales and 16 kB of rows at 4.28 TB/s; 2 MNK at 790 and 1580 Tflop/s.
    assert cases.floor_us("mxfp4", "bf16", 4096, 4096, 1) == pytest.approx(2.0864, rel=1e-3)
    assert cases.floor_us("mxfp4", "bf16", 4096, 4096, 8192) == pytest.approx(347.9, rel=1e-3)
    assert cases.floor_us("mxfp4", "fp8tok", 4096, 4096, 8192) == pytest.approx(174.0, rel=1e-3)
    assert cases.weight_bytes("int4g128", 128, 256) == 128 * 256 // 2 + 128 * 2 * 2
    assert cases.weight_bytes("fp8block", 256, 256) == 256 * 256 + 4 * 4
    for weights, activations in cases.FORMATS:
        assert cases.floor_us(weights, activations, 4096, 4096, 1) > 0


def test_tables():
    text = tables.tables(tables.load([ROWS]))
    assert "### N=4096, K=4096" in text and "### N=5120, K=2880" in text
    lines = text[text.index("### N=4096") :].splitlines()
    own = next(line for line in lines if line.startswith("| sabrewing/mxfp4/bf16"))
    assert own == "| sabrewing/mxfp4/bf16 | **5.0** | 8.0 | **190** |"
    assert next(line for line in lines if line.startswith("| humming/mxfp4/bf16")) == (
        "| humming/mxfp4/bf16 | 10.0 | **7.2** | - |"
    )
    w4a16 = lines[lines.index("W4A16:") :]
    assert next(line for line in w4a16 if "floor / time" in line) == "| *fastest: floor / time* | 0.40 | 0.28 | 0.92 |"
    assert "W4A8:" in text and "8-bit weights and BF16:" in text


def test_ratios():
    found = tables.ratios(tables.load([ROWS]))
    mean, least, count = found["mxfp4", "bf16"]["M 1-16"]
    assert count == 2 and least == pytest.approx(0.9)  # the fastest peer: 8 / 5 and 7.2 / 8
    assert mean == pytest.approx((1.6 * 0.9) ** 0.5)
    assert "M >= 2048" not in found["mxfp4", "bf16"]  # no peer there with these formats
    assert "1.20 (0.90 of 2)" in tables.ratio_table(tables.load([ROWS]))


def test_later_rows_replace_earlier_ones(tmp_path):
    row = json.loads(ROWS.read_text())["rows"][0] | {"us": 1.0}
    (tmp_path / "more.json").write_text(json.dumps([row]))
    rows = tables.load([ROWS, tmp_path / "more.json"])
    assert len(rows) == 10 and min(r["us"] for r in rows) == 1.0
    del row["floor_us"]
    (tmp_path / "more.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match="without floor_us"):
        tables.load([tmp_path / "more.json"])


def test_results_in_the_repository_are_rows():
    assert len(tables.load([REPOSITORY / "bench" / "results" / "gpu_h200_peers.json"])) > 10


def test_series_and_plot(tmp_path):
    shapes = plot_kernels.series(tables.load([ROWS]), "mxfp4", "bf16")
    assert shapes[4096, 4096]["sabrewing"] == [(1, 5.0), (4, 8.0), (4096, 190.0)]
    assert shapes[4096, 4096]["floor"] == [(1, 2.0), (4, 2.0), (4096, 174.0)]
    assert set(plot_kernels.series(tables.load([ROWS]), "int4g128", "bf16")) == {(4096, 4096), (5120, 2880)}
    assert plot_kernels.main(["--weights", "none", "--out", str(tmp_path / "a.svg"), str(ROWS)]) == 1
    pytest.importorskip("matplotlib")
    assert plot_kernels.main(["--out", str(tmp_path / "a.svg"), str(ROWS)]) == 0
    text = (tmp_path / "a.svg").read_text()
    assert text.startswith("<?xml") and "N=4096, K=4096" in text


def test_dry_run(capsys):
    assert run.main(["--dry-run", "--only", "5120x2880", "--m", "1,16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("int4g64/bf16" in line and "M=16" in line for line in lines)
    assert not any("fp8block" in line for line in lines)
    assert len(lines) == 2 * (len(cases.FORMATS) - 1)


def test_list_says_why_not(capsys):
    assert run.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(run.IMPLEMENTATIONS)


def test_command_line(capsys):
    for arguments in (["--m", "0"], ["--impl", "nobody"], ["--formats", "int3/bf16"], ["--formats", "mxfp4"]):
        with pytest.raises(SystemExit) as exit_:
            run.main(arguments)
        assert exit_.value.code == 2
    with pytest.raises(SystemExit, match="no shape 7x7"):
        run.main(["--dry-run", "--only", "7x7"])
    assert "bf16" in capsys.readouterr().err


def test_what_is_required_and_cannot_run_is_named():
    """Without a GPU that is the first one; with one it may be a package that is not installed."""
    command = [sys.executable, HERE.parent / "run.py", "--m", "1", "--deadline", "0"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    named = [line.split(" cannot run: ") for line in result.stderr.splitlines() if " cannot run: " in line]
    if not named:
        pytest.skip("this machine can run the comparison")
    assert result.returncode == 1 and result.stdout == ""
    assert {name for name, _ in named} <= {f"run.py: {name}" for name in run.REQUIRED}
    assert all(reason for _, reason in named)


class Refusing:
    """Refuses one of its pairs, and has no kernel for most."""

    name = "refusing"
    pairs = (("mxfp4", "bf16"), ("mxfp4", "fp8tok"), ("int4g64", "bf16"))

    @classmethod
    def refusal(cls, weights: str, activations: str, n: int, k: int) -> str:
        return f"not beside {activations}, N {n}, K {k}" if activations == "fp8tok" else ""


def test_a_refusal_is_a_skipped_cell(tmp_path, capsys):
    recorder = run.Recorder(tmp_path / "r.json", {}, {})
    shape = cases.Shape("", 5120, 2880)
    assert run.variants(shape, cases.FORMATS, [Refusing], recorder) == [
        (Refusing, "int4g64", "bf16"),
        (Refusing, "mxfp4", "bf16"),
    ]
    where = "refusing/mxfp4/fp8tok 5120x2880"
    assert recorder.skipped == {where: "not beside fp8tok, N 5120, K 2880"} and not recorder.failures
    assert f"skipped: {where}: not beside fp8tok" in capsys.readouterr().err
    recorder.save()
    assert json.loads((tmp_path / "r.json").read_text())["skipped"] == recorder.skipped


def test_recorder_writes_rows(tmp_path):
    recorder = run.Recorder(tmp_path / "r.json", {"device": "x"}, {"marlin": "absent"})
    recorder.rows = tables.load([ROWS])
    recorder.fail("somewhere", ValueError("two\nlines"))
    recorder.save()
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["failures"] == {"somewhere": "ValueError: two"} and data["absent"] == {"marlin": "absent"}
    assert tables.load([tmp_path / "r.json"]) == recorder.rows


def test_implementations_are_the_listed_ones():
    pytest.importorskip("torch")
    import implementations

    assert tuple(cls.name for cls in implementations.ALL) == run.IMPLEMENTATIONS
    known = {*cases.FORMATS, *(("int4g64", activations) for _, activations in cases.FORMATS)}
    for cls in implementations.ALL:
        assert cls.pairs and set(cls.pairs) <= known


def test_the_librarys_formats():
    pytest.importorskip("torch")
    pytest.importorskip("sabrewing", reason="SABREWING_LIBRARY and python/ on PYTHONPATH")
    import implementations

    for weights, activations in implementations.Sabrewing.pairs:
        fmt, activation = implementations.Sabrewing.formats(weights, activations)
        fmt.to_abi(), activation.to_abi()
        assert (activation.scale is None) == (activations == "bf16")
    fp8block, fp8g128 = implementations.Sabrewing.formats("fp8block", "fp8g128")
    assert (fp8block.block_n, fp8block.block_k, fp8g128.group) == (128, 128, 128)


def test_the_librarys_operands():
    torch = pytest.importorskip("torch")
    pytest.importorskip("sabrewing", reason="SABREWING_LIBRARY and python/ on PYTHONPATH")
    import data
    import implementations

    rows = data.Activations(5, 256, device="cpu")
    for activations, shape in {"fp8tok": (5,), "int8tok": (5,), "fp8tensor": (5,), "fp8g128": (2, 5)}.items():
        implementation = implementations.Sabrewing.__new__(implementations.Sabrewing)
        implementation.activations = activations
        codes, scales = implementation.operand(rows)
        assert scales.shape == shape and scales.dtype == torch.float32 and scales.is_contiguous()
        factors = scales.repeat_interleave(128, 0).t() if activations == "fp8g128" else scales[:, None]
        assert torch.equal(codes.double() * factors.double(), rows.exact(activations))


@pytest.mark.parametrize("weights", ["int4g128", "int4g64", "mxfp4", "fp8row", "fp8block", "fp8tensor", "bf16"])
def test_quantizers(weights):
    torch = pytest.importorskip("torch")
    import data

    weight = data.Weight(128, 256, device="cpu")
    exact = weight.exact(weights)
    bound = {"i": 0.12, "m": 0.15, "f": 0.03, "b": 0.003}[weights[0]]
    assert 0 < data.relative_error(weight.dense, exact) < bound
    if weights.startswith("int4g"):
        words = weight.parts(weights)[0]
        assert torch.equal(words[0, 0] >> 4 & 15, weight.parts(weights)[2][0, 1].int())


def test_the_librarys_bytes():
    pytest.importorskip("torch")
    sabrewing = pytest.importorskip("sabrewing", reason="SABREWING_LIBRARY and python/ on PYTHONPATH")
    import data

    weight, rows = data.Weight(64, 256, device="cpu"), data.Activations(5, 256, device="cpu")
    values, scales, _ = weight.parts("mxfp4")
    plan = sabrewing.Context("cpu", threads=1).plan(sabrewing.MXFP4, 64, 256, accuracy="exact")
    product = plan.run(rows.rows, plan.pack(values.view(data.torch.uint8), scales))
    assert data.relative_error(product, rows.exact("bf16") @ weight.exact("mxfp4").t()) < 1e-6


@pytest.mark.parametrize("activations", ["bf16", "int8tok", "fp8tok", "fp8g128", "fp8tensor"])
def test_activation_quantizers(activations):
    pytest.importorskip("torch")
    import data

    rows = data.Activations(5, 256, device="cpu")
    assert data.relative_error(rows.rows, rows.exact(activations)) < 0.04


def test_counts():
    pytest.importorskip("torch")
    import timing

    assert timing.copies_of(10_000_000) == 25 and timing.copies_of(10**9) == 2 and timing.copies_of(1000) == 40
    assert timing.calls_per_graph(3, 1, 2.0) == 8 and timing.calls_per_graph(25, 1, 2.0) == 25
    assert timing.calls_per_graph(25, 4096, 100.0) == 4 and timing.calls_per_graph(25, 8192, 1000.0) == 1
