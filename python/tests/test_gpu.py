"""On a machine with a GPU and torch; elsewhere each test says why not."""

from __future__ import annotations

import os

import numpy as np
import pytest
from reference import bf16_bits, int4_values, random_e4m3, random_mxfp4, relative_error

import sabrewing

# Set by tests/acceptance/gpu.sh, where a test that is skipped shows nothing.
REQUIRED = bool(os.environ.get("SABREWING_REQUIRE_GPU"))


@pytest.fixture(scope="module")
def context() -> sabrewing.Context:
    try:
        return sabrewing.Context("cuda:0")
    except sabrewing.DeviceError as error:
        if REQUIRED:
            raise
        pytest.skip(f"no GPU: {error}")


@pytest.fixture(scope="module")
def torch(context):
    if REQUIRED:
        import torch as module
    else:
        module = pytest.importorskip("torch")
    if not REQUIRED and not module.cuda.is_available():
        pytest.skip("this torch has no CUDA device")
    return module


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_without_a_driver_the_paths_are_named():
    try:
        sabrewing.Context("cuda:0")
    except sabrewing.DeviceError as error:
        assert "libcuda.so.1" in str(error) or "[driver]" in str(error)
        return
    with pytest.raises(sabrewing.InvalidArgument, match="no GPU 1000"):
        sabrewing.Context("cuda:1000")


def weights(rng, name, n, k):
    """The format, arguments of pack, values."""
    if name == "mxfp4":
        values, scales, numbers = random_mxfp4(rng, n, k)
        return sabrewing.MXFP4, (values, scales), numbers
    if name == "fp8row":
        codes, numbers = random_e4m3(rng, n, k)
        scales = rng.uniform(0.5, 2, (n, 1)).astype(np.float32)
        return sabrewing.WeightFormat("float8e4m3", "fp32", 1), (codes, scales), numbers * scales
    if name == "fp8tensor":
        codes, numbers = random_e4m3(rng, n, k)
        scales = np.array([0.7], np.float32)
        return sabrewing.WeightFormat("float8e4m3", "fp32"), (codes, scales), numbers * scales
    if name == "fp8block":
        codes, numbers = random_e4m3(rng, n, k)
        scales = rng.uniform(0.5, 2, (-(-n // 128), -(-k // 128))).astype(np.float32)
        spread = scales.repeat(128, 0).repeat(128, 1)[:n, :k]
        return sabrewing.WeightFormat("float8e4m3", "fp32", 128, 128), (codes, scales), numbers * spread
    group = 64
    values = rng.integers(0, 256, (n, k // 2), np.uint8)
    scales = bf16_bits(rng.uniform(0.005, 0.015, (n, k // group)))
    return sabrewing.WeightFormat.grouped("int4", group), (values, scales), int4_values(values, scales, group)


@pytest.mark.parametrize("name", ["mxfp4", "int4"])
@pytest.mark.parametrize("m", [1, 7, 16, 65, 257])
def test_products(context, torch, rng, name, m):
    n, k = 192, 2880
    fmt, stored, numbers = weights(rng, name, n, k)
    x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
    expected = x.double().cpu().numpy() @ numbers.T
    plan = context.plan(fmt, n, k, bias=True)
    bias = torch.randn(n, device="cuda")
    c = plan.run(x, plan.pack(*stored), bias=bias)
    assert c.dtype == torch.bfloat16
    bound = 2.3e-3 if "pre_scaled" in plan.kernel_name else 2.0e-3
    assert relative_error(c.float().cpu().numpy(), expected + bias.double().cpu().numpy()) < bound
    precise = context.plan(fmt, n, k, output="f32", accuracy="high")
    c = precise.run(x, precise.pack(*stored))
    assert relative_error(c.cpu().numpy(), expected) < 1e-5


def quantized(rng, name, m, k):
    """The format, codes, scales and values of activations."""
    if name == "int8tok":
        codes = rng.integers(-127, 128, (m, k)).astype(np.int8)
        fmt, numbers = sabrewing.ActivationFormat.per_token("int8"), codes.astype(np.float64)
    else:
        codes, numbers = random_e4m3(rng, m, k)
        fmt = {
            "fp8tok": sabrewing.ActivationFormat.per_token("float8e4m3"),
            "fp8tensor": sabrewing.ActivationFormat.per_tensor("float8e4m3"),
            "fp8g128": sabrewing.ActivationFormat.per_group("float8e4m3", 128),
        }[name]
    if name == "fp8tensor":
        scales = np.full(m, 0.3, np.float32)
    else:
        scales = rng.uniform(0.5, 2, (-(-k // 128), m) if name == "fp8g128" else m).astype(np.float32)
    factors = scales.repeat(128, 0).T[:, :k] if name == "fp8g128" else scales[:, None]
    return fmt, codes, scales, numbers * factors


def plan_or_skip(context, fmt, n, k, activation):
    feasible = context.can_implement(fmt, n, k, activation=activation)
    if not feasible and not REQUIRED:
        pytest.skip(feasible.reason)
    return context.plan(fmt, n, k, activation=activation)


@pytest.mark.parametrize(
    "name, activations",
    [
        ("mxfp4", "fp8tok"),
        ("int4", "fp8tok"),
        ("int4", "int8tok"),
        ("fp8row", "fp8tok"),
        ("fp8tensor", "fp8tensor"),
        ("fp8block", "fp8g128"),
    ],
)
@pytest.mark.parametrize("m", [1, 17, 257])
def test_quantized_activations(context, torch, rng, name, activations, m):
    n, k = 192, 2816
    fmt, stored, numbers = weights(rng, name, n, k)
    activation, codes, scales, values = quantized(rng, activations, m, k)
    plan = plan_or_skip(context, fmt, n, k, activation)
    assert plan.activation == activation
    weight = plan.pack(*stored)
    a, a_scales = torch.from_numpy(codes).cuda(), torch.from_numpy(scales).cuda()
    c = plan.run(a, weight, a_scales=a_scales)  # the bits
    assert relative_error(c.float().cpu().numpy(), values @ numbers.T) < 3e-3
    if activations != "int8tok":
        assert torch.equal(plan.run(a.view(torch.float8_e4m3fn), weight, a_scales=a_scales), c)


def test_misuse_of_scales(context, torch, rng):
    n, k, m = 192, 2816, 8
    fmt, stored, _ = weights(rng, "fp8block", n, k)
    activation, codes, scales, _ = quantized(rng, "fp8g128", m, k)
    plain_fmt, plain_stored, _ = weights(rng, "mxfp4", n, k)
    plain = context.plan(plain_fmt, n, k)
    x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
    a, a_scales = torch.from_numpy(codes).cuda(), torch.from_numpy(scales).cuda()
    with pytest.raises(ValueError, match="activations, bf16, have no scales"):
        plain.run(x, plain.pack(*plain_stored), a_scales=a_scales)
    with pytest.raises(ValueError, match="expected BF16"):
        plain.run(a.view(torch.float8_e4m3fn), plain.pack(*plain_stored))
    plan = plan_or_skip(context, fmt, n, k, activation)
    weight = plan.pack(*stored)
    with pytest.raises(sabrewing.InvalidArgument, match="a_scales are null: on cuda:0 .* need them"):
        plan.run(a, weight)
    for wrong, match in [
        (a_scales.cpu(), "a_scales is on cpu"),
        (a_scales.double(), "torch.float64: f32 expected"),
        (a_scales[0], r"contiguous \(22, 8\) expected"),
        (a_scales.t(), r"contiguous \(22, 8\) expected"),
        (a_scales.t().contiguous().t(), r"contiguous \(22, 8\) expected"),
    ]:
        with pytest.raises(ValueError, match=match):
            plan.run(a, weight, a_scales=wrong)
    with pytest.raises(ValueError, match="expected F8_E4M3"):
        plan.run(x, weight, a_scales=a_scales)
    with pytest.raises(ValueError, match="expected F8_E4M3"):
        plan.run(a.view(torch.float8_e5m2), weight, a_scales=a_scales)
    assert plan.run(a[:0], weight, a_scales=a_scales[:, :0].contiguous()).shape == (0, n)
    torch.cuda.synchronize()


def test_streams_and_graphs(context, torch, rng):
    fmt, stored, _ = weights(rng, "mxfp4", 256, 512)
    plan = context.plan(fmt, 256, 512)
    weight = plan.pack(*stored)
    x = torch.randn(8, 512, device="cuda", dtype=torch.bfloat16)
    expected = plan.run(x, weight).clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        c = plan.run(x, weight)  # on the current stream
    side.synchronize()
    assert torch.equal(c, expected)
    out = torch.zeros_like(expected)
    assert plan.run(x, weight, out=out, stream=side) is out
    side.synchronize()
    assert torch.equal(out, expected)
    graph = torch.cuda.CUDAGraph()
    out.zero_()
    with torch.cuda.graph(graph):
        plan.run(x, weight, out=out)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(out, expected)


def test_caller_owned_buffer(context, torch, rng):
    fmt, stored, _ = weights(rng, "mxfp4", 256, 512)
    plan = context.plan(fmt, 256, 512)
    buffer = torch.full((plan.packed_bytes + 256,), 0xAB, dtype=torch.uint8, device="cuda")
    weight = plan.pack(*stored, buffer=buffer[: plan.packed_bytes])
    x = torch.randn(8, 512, device="cuda", dtype=torch.bfloat16)
    assert torch.equal(plan.run(x, weight), plan.run(x, plan.pack(*stored)))
    assert bool((buffer[plan.packed_bytes :] == 0xAB).all())
    # Tensors on the GPU are fetched.
    moved = [torch.from_numpy(part).cuda() for part in stored]
    assert torch.equal(plan.run(x, plan.pack(*moved)), plan.run(x, weight))


def test_misuse(context, torch, rng):
    fmt, stored, _ = weights(rng, "mxfp4", 256, 512)
    plan = context.plan(fmt, 256, 512)
    weight = plan.pack(*stored)
    x = torch.randn(8, 512, device="cuda", dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="a is on cpu"):
        plan.run(x.cpu(), weight)
    with pytest.raises(ValueError, match="expected BF16"):
        plan.run(x.float(), weight)
    with pytest.raises(ValueError, match="16 bytes"):
        plan.run(torch.randn(8, 520, device="cuda", dtype=torch.bfloat16)[:, 1:513], weight)
    with pytest.raises(ValueError, match="on cuda:0, the plan on cpu"):
        cpu = sabrewing.Context("cpu").plan(fmt, 256, 512)
        cpu.run(x, cpu.pack(*stored))
    with pytest.raises(sabrewing.InvalidArgument, match="the weight is on cuda:0"):
        cpu.run(x.float().cpu(), weight)
    assert plan.run(x[:0], weight).shape == (0, 256)
    torch.cuda.synchronize()


def test_the_callers_context_stays_current(context, torch, rng):
    fmt, stored, _ = weights(rng, "mxfp4", 256, 512)
    plan = context.plan(fmt, 256, 512)
    weight = plan.pack(*stored)
    before = torch.cuda.current_device()
    x = torch.randn(8, 512, device="cuda:0", dtype=torch.bfloat16)
    plan.run(x, weight)
    assert torch.cuda.current_device() == before
    assert bool(torch.isfinite(torch.randn(4, device="cuda").sum()))
