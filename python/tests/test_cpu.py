from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from reference import E4M3, bf16_bits, bf16_values, random_mxfp4, relative_error

import sabrewing
from sabrewing import _memory

SHAPES = [(1, 1, 32), (3, 17, 64), (8, 48, 96), (33, 100, 288), (7, 192, 2880)]


@pytest.fixture(scope="module")
def context() -> sabrewing.Context:
    return sabrewing.Context("cpu", threads=2)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def activations(rng: np.random.Generator, m: int, k: int) -> np.ndarray:
    return rng.standard_normal((m, k)).astype(np.float32)


@pytest.mark.parametrize("m, n, k", SHAPES)
@pytest.mark.parametrize("accuracy, bound", [("exact", 1e-6), ("default", 8e-3)])
def test_mxfp4(context, rng, m, n, k, accuracy, bound):
    values, scales, numbers = random_mxfp4(rng, n, k)
    plan = context.plan(sabrewing.MXFP4, n, k, max_m=m, accuracy=accuracy)
    x = activations(rng, m, k)
    c = plan.run(x, plan.pack(values, scales))
    assert c.shape == (m, n) and c.dtype == np.float32
    assert relative_error(c, x @ numbers.T) < bound


@pytest.mark.parametrize("m, n, k", SHAPES + [(5, 20, 77)])
@pytest.mark.parametrize("accuracy, bound", [("exact", 1e-6), ("default", 4e-3)])
def test_bf16(context, rng, m, n, k, accuracy, bound):
    bits = bf16_bits(rng.standard_normal((n, k)))
    plan = context.plan(sabrewing.BF16, n, k, max_m=m, accuracy=accuracy)
    x = activations(rng, m, k)
    assert relative_error(plan.run(x, plan.pack(bits)), x @ bf16_values(bits).T) < bound


@pytest.mark.parametrize("dtype, fmt", [(np.float16, sabrewing.FP16), (np.float32, sabrewing.FP32)])
def test_wide_floats(context, rng, dtype, fmt):
    w = rng.standard_normal((50, 77)).astype(dtype)
    plan = context.plan(fmt, 50, 77, max_m=9)
    x = activations(rng, 9, 77)
    assert relative_error(plan.run(x, plan.pack(w)), x @ w.astype(np.float64).T) < 1e-6


def test_named_activations(context, rng):
    bits = bf16_bits(rng.standard_normal((40, 64)))
    plan = context.plan(sabrewing.BF16, 40, 64, activation=sabrewing.ActivationFormat("bf16"))
    assert "bf16" in plan.kernel_name
    x = activations(rng, 3, 64)
    exact = bf16_values(bf16_bits(x)) @ bf16_values(bits).T  # products of rounded activations are exact in FP32
    assert relative_error(plan.run(x, plan.pack(bits)), exact) < 1e-6
    assert context.preferred_activation(sabrewing.MXFP4) == sabrewing.ActivationFormat("int8", "group", 32, "fp32")
    assert context.preferred_activation(sabrewing.MXFP4, "exact") == sabrewing.ActivationFormat("fp32")


def test_plans_know_their_activations(context):
    int8 = sabrewing.ActivationFormat.per_group("int8", 32)
    assert int8 == sabrewing.ActivationFormat("int8", "group", 32, "fp32")
    assert context.plan(sabrewing.MXFP4, 40, 96).activation == int8
    assert context.plan(sabrewing.MXFP4, 40, 96, accuracy="exact").activation.element == "fp32"
    for activation in (
        sabrewing.ActivationFormat.per_token("float8e4m3"),
        sabrewing.ActivationFormat.per_tensor("float8e4m3"),
        sabrewing.ActivationFormat.per_group("float8e4m3", 128),
    ):
        refusal = context.can_implement(sabrewing.MXFP4, 40, 96, activation=activation)
        assert not refusal and "float8e4m3" in refusal.reason
    with pytest.raises(sabrewing.InvalidArgument, match="activation group is 0"):
        context.plan(sabrewing.MXFP4, 40, 96, activation=sabrewing.ActivationFormat.per_group("int8", 0))


def test_bias_out_and_strides(context, rng):
    values, scales, numbers = random_mxfp4(rng, 40, 96)
    plan = context.plan(sabrewing.MXFP4, 40, 96, bias=True, accuracy="exact")
    weight = plan.pack(values, scales)
    bias = activations(rng, 1, 40)[0]
    wide = activations(rng, 6, 200)
    out = np.full((6, 50), -1, np.float32)
    assert plan.run(wide[:, 8:104], weight, bias=bias, out=out[:, 3:43]) is not None
    assert relative_error(out[:, 3:43], wide[:, 8:104] @ numbers.T + bias) < 1e-6
    assert (out[:, :3] == -1).all() and (out[:, 43:] == -1).all()


def test_bf16_operands(context, rng):
    values, scales, numbers = random_mxfp4(rng, 40, 96)
    plan = context.plan(sabrewing.MXFP4, 40, 96, accuracy="exact", output="bf16")
    x = bf16_bits(activations(rng, 5, 96))
    c = plan.run(x, plan.pack(values, scales))
    assert c.dtype == np.uint16
    assert relative_error(bf16_values(c), bf16_values(x) @ numbers.T) < 2e-3


def test_parts_and_layouts(context, rng):
    values, scales, numbers = random_mxfp4(rng, 40, 96)
    plan = context.plan(sabrewing.MXFP4, 40, 96, accuracy="exact")
    x = activations(rng, 4, 96)
    straight = plan.run(x, plan.pack(values, scales))
    # Even rows, then odd ones; and blocks with a trailing axis, as gpt-oss has them.
    parts = [(values[0::2], scales[0::2]), (values[1::2], scales[1::2])]
    np.testing.assert_array_equal(
        plan.run(x, plan.pack(parts=parts)), np.concatenate([straight[:, 0::2], straight[:, 1::2]], axis=1)
    )
    np.testing.assert_array_equal(plan.run(x, plan.pack(values.reshape(40, 3, 16), scales)), straight)
    assert relative_error(straight, x @ numbers.T) < 1e-6


def test_caller_owned_buffer(context, rng):
    values, scales, _ = random_mxfp4(rng, 40, 96)
    plan = context.plan(sabrewing.MXFP4, 40, 96)
    assert plan.packed_bytes == 3 * (64 + 48 * 16)
    memory = np.full(plan.packed_bytes + 512, 0xAB, np.uint8)
    start = -memory.ctypes.data % 256
    buffer = memory[start : start + plan.packed_bytes]
    weight = plan.pack(values, scales, buffer=buffer)
    x = activations(rng, 4, 96)
    np.testing.assert_array_equal(plan.run(x, weight), plan.run(x, plan.pack(values, scales)))
    assert weight.nbytes == plan.packed_bytes
    copy = weight.copy()
    expected = plan.run(x, weight)
    buffer[:] = 0
    np.testing.assert_array_equal(plan.run(x, copy), expected)
    assert not np.array_equal(plan.run(x, weight), expected)
    buffer[:] = 1
    assert (memory[:start] == 0xAB).all() and (memory[start + plan.packed_bytes :] == 0xAB).all()
    assert not (buffer == 0xAB).all()
    with pytest.raises(sabrewing.InvalidArgument, match="the buffer has"):
        plan.pack(values, scales, buffer=buffer[:-1])
    with pytest.raises(sabrewing.InvalidArgument, match="no multiple of 256"):
        plan.pack(values, scales, buffer=memory[start + 1 :])
    buffer.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        plan.pack(values, scales, buffer=buffer)


def test_zero_rows(context, rng):
    values, scales, _ = random_mxfp4(rng, 40, 96)
    plan = context.plan(sabrewing.MXFP4, 40, 96)
    assert plan.run(np.empty((0, 96), np.float32), plan.pack(values, scales)).shape == (0, 40)


def test_contiguous_memory():
    array = np.zeros((4, 3), np.float32)
    for part, contiguous in [(array, True), (array.T, False), (array[:, :1], False), (array[:1, :2], True), (array[:, :0], True)]:
        assert _memory.describe(part, "part").is_contiguous() == contiguous


def test_explain_and_describe(context):
    plan = context.plan(sabrewing.MXFP4, 40, 96)
    assert "mxfp4 x int8 g32" in plan.kernel_name
    assert plan.kernel_name in plan.explain()
    assert context.describe().startswith("cpu ")
    assert "cpu" in repr(context) and "n=40" in repr(plan)
    assert sabrewing.version() == sabrewing.__version__
    assert "sabrewing" in sabrewing.library_path()


def test_refusals_have_the_rule(context):
    assert context.can_implement(sabrewing.MXFP4, 40, 96)
    refusal = context.can_implement(sabrewing.MXFP4, 40, 100)
    assert not refusal and "not a multiple of 32" in refusal.reason
    with pytest.raises(sabrewing.Unsupported, match="not a multiple of 32"):
        context.plan(sabrewing.MXFP4, 40, 100)
    with pytest.raises(NotImplementedError, match="nvfp4"):
        context.plan(sabrewing.NVFP4, 40, 96)
    assert "int4 g32 bf16" in context.can_implement(sabrewing.WeightFormat.grouped("int4", 32), 40, 96).reason
    assert "mxfp8" in context.can_implement(sabrewing.MXFP8, 40, 96).reason


@pytest.mark.parametrize(
    "change, match",
    [
        ({"n": 0}, "n is 0"),
        ({"k": -32}, "k is -32"),
        ({"n": 2**31}, "n is 2147483648"),
        ({"max_m": 0}, "max_m is 0"),
        ({"min_m": 9, "max_m": 8}, "min_m is 9"),
        ({"weight": sabrewing.WeightFormat("int99")}, "int99"),
        ({"weight": sabrewing.WeightFormat("bf16", block_k=32)}, "without a scale"),
    ],
)
def test_invalid_plans(context, change, match):
    arguments = {"weight": sabrewing.MXFP4, "n": 40, "k": 96, **change}
    with pytest.raises(sabrewing.InvalidArgument, match=match):
        context.plan(**arguments)
    with pytest.raises(ValueError, match=match):
        context.can_implement(**arguments)


def test_invalid_names(context):
    with pytest.raises(ValueError, match="output is 'f64'"):
        context.plan(sabrewing.MXFP4, 40, 96, output="f64")
    with pytest.raises(ValueError, match="accuracy is 'good'"):
        context.plan(sabrewing.MXFP4, 40, 96, accuracy="good")
    with pytest.raises(ValueError, match="zero_point is 'maybe'"):
        context.plan(sabrewing.WeightFormat("int4", zero_point="maybe"), 40, 96)
    with pytest.raises(sabrewing.InvalidArgument, match='"gpu"'):
        sabrewing.Context("gpu")
    with pytest.raises(sabrewing.InvalidArgument, match="mmx"):
        sabrewing.Context("cpu", cpu_tier="mmx")


def test_invalid_weights(context, rng):
    values, scales, _ = random_mxfp4(rng, 40, 96)
    plan = context.plan(sabrewing.MXFP4, 40, 96)
    for arguments, match in [
        ((values[:39], scales[:39]), "the parts have 39 rows"),
        ((values, scales[:39]), "are not in"),
        ((values[:, :40].copy(), scales), "rows are 40 bytes apart"),
        ((values, None), "scales are null"),
        ((values, scales, scales), "has no zero points"),
    ]:
        with pytest.raises(sabrewing.InvalidArgument, match=match):
            plan.pack(*arguments)
    for arguments, match in [
        ((values[:, ::2], scales), "values: rows are not contiguous"),
        ((np.broadcast_to(values[:1], values.shape), scales), "rows lie on each other"),
        ((values[::-1], scales), "rows lie on each other or backwards"),
        ((), "either values or parts"),
    ]:
        with pytest.raises(ValueError, match=match):
            plan.pack(*arguments)
    with pytest.raises(sabrewing.InvalidArgument, match="second_scale is 2: 0 expected"):
        plan.pack(values, scales, second_scale=2.0)
    with pytest.raises(TypeError, match="values is a list"):
        plan.pack([1, 2], scales)


def test_invalid_calls(context, rng):
    values, scales, _ = random_mxfp4(rng, 40, 96)
    plan = context.plan(sabrewing.MXFP4, 40, 96, max_m=8)
    weight = plan.pack(values, scales)
    x = activations(rng, 4, 96)
    out = np.empty((4, 40), np.float32)
    frozen = out.copy()
    frozen.flags.writeable = False
    for a, arguments, match in [
        (x[:, :95], {}, r"\(M, 96\) expected"),
        (x[0], {}, r"\(M, 96\) expected"),
        (np.asfortranarray(x), {}, "rows are not contiguous"),
        (np.broadcast_to(x[:1], x.shape), {}, "rows lie on each other"),
        (x.astype(np.float64), {}, "a is <f8"),
        (x.astype(">f4"), {}, "big-endian"),
        (x, {"out": out[:3]}, "out has 3 rows"),
        (x, {"out": out[:, :39]}, "out has shape"),
        (x, {"out": out.astype(np.float16)}, "f32 expected"),
        (x, {"out": frozen}, "read-only"),
        (x, {"bias": np.zeros(39, np.float32)}, "bias is"),
        (x, {"bias": np.zeros(80, np.float32)[::2]}, "bias is not contiguous"),
        (x, {"bias": np.zeros(40, np.float32)}, "without bias"),
        (x, {"stream": 1}, "stream"),
        (x.astype(np.int8), {}, "a is I8"),
        (x.astype(np.uint8), {}, "a is u8"),
        (x, {"out": out.astype(np.int8)}, "out is i8: f32 expected"),
        (x, {"a_scales": np.ones((3, 4), np.float32)}, "a_scales are given: on cpu"),
        (x, {"a_scales": np.ones((4, 3), np.float32)}, r"contiguous \(3, 4\) expected"),
        (x, {"a_scales": np.ones((4, 3), np.float32).T}, r"contiguous \(3, 4\) expected"),
        (x, {"a_scales": np.ones((3, 4))}, "a_scales is <f8: f32 expected"),
        (np.tile(x, (3, 1)), {}, "1 to 8"),
    ]:
        with pytest.raises(ValueError, match=match):
            plan.run(a, weight, **arguments)
    exact = context.plan(sabrewing.MXFP4, 40, 96, accuracy="exact")
    with pytest.raises(ValueError, match="activations, fp32, have no scales"):
        exact.run(x, exact.pack(values, scales), a_scales=np.ones(4, np.float32))
    with pytest.raises(TypeError, match="a is a list"):
        plan.run([[1.0]], weight)
    with pytest.raises(TypeError, match="the result of pack"):
        plan.run(x, values)
    with pytest.raises(sabrewing.InvalidArgument, match=r"\(41, 96\) expected"):
        context.plan(sabrewing.MXFP4, 41, 96).run(x, weight)


def test_closed_handles(rng):
    values, scales, numbers = random_mxfp4(rng, 40, 96)
    context = sabrewing.Context("cpu", threads=1)
    plan = context.plan(sabrewing.MXFP4, 40, 96, accuracy="exact")
    context.close()
    context.close()  # no second time
    with pytest.raises(sabrewing.InvalidArgument, match="destroyed"):
        context.plan(sabrewing.MXFP4, 40, 96)
    x = activations(rng, 2, 96)
    with plan.pack(values, scales) as weight:
        assert relative_error(plan.run(x, weight), x @ numbers.T) < 1e-6  # the plan does not need the context's handle
    with pytest.raises(sabrewing.InvalidArgument, match="no weight"):
        plan.run(x, weight)
    plan.close()
    with pytest.raises(sabrewing.InvalidArgument, match="no plan"):
        plan.explain()


def test_objects_are_collected(context):
    plan = context.plan(sabrewing.MXFP4, 40, 96)
    gone = weakref.ref(plan)
    del plan
    gc.collect()
    assert gone() is None


def test_threads(context, rng):
    values, scales, _ = random_mxfp4(rng, 40, 96)
    plan = context.plan(sabrewing.MXFP4, 40, 96)
    weight = plan.pack(values, scales)
    x = activations(rng, 16, 96)
    expected = plan.run(x, weight)
    failures: list[object] = []

    def work() -> None:
        for _ in range(30):
            if not np.array_equal(plan.run(x, weight), expected):
                failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_eight_bit_floats_of_the_reference():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(E4M3, codes.view(ml_dtypes.float8_e4m3fn).astype(np.float64))


def test_dlpack(context, rng):
    class Exporter:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **arguments):
            return self.array.__dlpack__(**arguments)

    values, scales, numbers = random_mxfp4(rng, 40, 96)
    plan = context.plan(sabrewing.MXFP4, 40, 96, accuracy="exact")
    x = activations(rng, 4, 200)
    out = np.empty((4, 40), np.float32)
    plan.run(Exporter(x[:, 3:99]), plan.pack(Exporter(values), Exporter(scales)), out=Exporter(out))
    assert relative_error(out, x[:, 3:99] @ numbers.T) < 1e-6
    with pytest.raises(TypeError, match="pass out"):
        plan.run(Exporter(x[:, :96]), plan.pack(values, scales))


def test_torch(context, rng):
    torch = pytest.importorskip("torch")
    values, scales, numbers = random_mxfp4(rng, 40, 96)
    plan = context.plan(sabrewing.MXFP4, 40, 96, accuracy="exact", output="bf16")
    x = torch.from_numpy(activations(rng, 6, 100)).bfloat16()[:, 2:98]
    c = plan.run(x, plan.pack(torch.from_numpy(values), torch.from_numpy(scales)))
    assert c.dtype == torch.bfloat16 and c.shape == (6, 40)
    assert relative_error(c.float().numpy(), x.double().numpy() @ numbers.T) < 2e-3
    with pytest.raises(ValueError, match="torch.float64"):
        plan.run(x.double(), plan.pack(values, scales))


def test_log(context, caplog):
    import logging

    sabrewing.log_to(logging.getLogger("sabrewing"))
    sabrewing.log_to(None)
    assert not caplog.records
