// The device text of the packing kernels, compiled for the host, against the packing on the host.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "kernels/cuda/bench/random_weight.h"
#include "kernels/cuda/gemm/device_packer.h"

// clang-format off: device text needs the shim before it.
#include "device_shim.h"
#include "kernels/cuda/device/pack_values.cuh"
// clang-format on

namespace sabrewing::kernels::cuda {
namespace {

using formats::ElementType;
using formats::WeightFormat;

struct DevicePacked {
  std::vector<std::byte> bytes;
  bool trouble = false;
};

/// What the kernels of device/pack.cuh do, one thread after the other.
DevicePacked pack_as_device(const WeightSource& source, const WeightLayout& layout) {
  const PackedShape shape = PackedShape::of(layout, source.n(), source.k);
  device::PackParams p = pack_params(source, layout, shape);
  const device::PackLayout l = pack_layout(source.format, layout);
  DevicePacked packed{std::vector<std::byte>(shape.bytes), false};
  std::vector<int> lowered(static_cast<std::size_t>(shape.n));
  std::array<unsigned, 2> status{};
  p.row_lowered = lowered.data();
  p.status = status.data();
  p.out = reinterpret_cast<unsigned char*>(packed.bytes.data());
  for (int row = 0; row < p.n; ++row) {
    float scale = 0, zero = 0;
    packed.trouble |= device::scan_row(p, l, row, 0, 1, scale, zero);
    lowered[static_cast<std::size_t>(row)] = device::lowered_of_row(l, scale, zero);
    if (l.encoding == device::PackEncoding::kE2M1Folded &&
        device::folded_spread(scale, zero) > device::kFoldedDistance) {
      double error = 0, norm = 0;
      device::folded_error(p, l, row, lowered[static_cast<std::size_t>(row)], 0, 1, error, norm);
      packed.trouble |= error > device::kFoldedError * device::kFoldedError * norm;
    }
    status[0] = std::max(status[0], __float_as_uint(scale));
  }
  const auto each_thread = [](const auto& phase) {
    for (int thread = 0; thread < device::kPackThreads; ++thread) phase(thread);
  };
  std::vector<std::uint32_t> codes(device::kPackTileWords);
  for (int row_block = 0; row_block < p.row_blocks; ++row_block) {
    for (int tile = 0; tile * device::kPackTileColumns < p.slabs * l.slab_k; ++tile) {
      std::fill(codes.begin(), codes.end(), 0xa5a5a5a5u);
      each_thread([&](int thread) { device::stage_codes(p, l, row_block, tile, thread, codes.data()); });
      each_thread([&](int thread) { device::pack_scales(p, l, row_block, tile, thread, packed.trouble); });
      each_thread([&](int thread) {
        device::pack_codes(p, l, row_block, tile, thread, codes.data(), packed.trouble);
      });
    }
    each_thread([&](int thread) { device::pack_factor(p, l, row_block, thread, packed.trouble); });
  }
  return packed;
}

void expect_same(const WeightSource& source, const WeightLayout& layout) {
  const PackedHostWeight expected = pack_weight(source, layout);
  const DevicePacked got = pack_as_device(source, layout);
  EXPECT_FALSE(got.trouble);
  ASSERT_EQ(got.bytes.size(), expected.bytes.size());
  for (std::size_t i = 0; i < got.bytes.size(); ++i)
    ASSERT_EQ(got.bytes[i], expected.bytes[i])
        << "byte " << i << " of slab " << i / layout.slab_bytes() << " at " << i % layout.slab_bytes()
        << ", factors from " << expected.shape.factor_offset;
}

TEST(DevicePacking, MatchesTheHostForTheFragmentLayouts) {
  for (const char* name : {"mxfp4", "int4g128", "int4g64", "int4:g256:bf16", "int4row", "int4:tensor:fp16",
                           "fp8row", "float8e4m3:tensor:bf16"})
    for (const auto& [n, k] : {std::pair{33, 384}, {130, 1280}, {64, 256}}) {
      SCOPED_TRACE(fmt::format("{} {}x{}", name, n, k));
      const std::int64_t columns = std::string(name) == "int4:g256:bf16" ? 512 : k;
      const RandomWeight weight(format_by_name(name), n, columns, 7);
      expect_same(weight.source(), weight_layout(weight.format));
      if (HasFatalFailure()) return;
    }
}

TEST(DevicePacking, MatchesTheHostForEveryElementScaleAndOperand) {
  const std::array<std::pair<std::int64_t, std::int64_t>, 3> sizes{{{33, 65}, {70, 1}, {1, 391}}};
  const std::array<ElementType, 5> scales{formats::kFP32, formats::kFP16, formats::kBF16, formats::kE4M3,
                                          formats::kE8M0};
  std::size_t turn = 0;
  int count = 0;
  for (int bits = 1; bits <= 8; ++bits)
    for (int exponent = -1; exponent < bits; ++exponent)
      for (const char* activation_name : {"bf16", "fp16", "fp8", "fp8e5m2", "int8"})
        for (const formats::ZeroPoint zero :
             {formats::ZeroPoint::kNone, formats::ZeroPoint::kInteger, formats::ZeroPoint::kFloat})
          for (const formats::BlockShape block :
               {formats::BlockShape{0, 0}, {1, 0}, {1, 16}, {1, 96}, {1, 128}, {128, 128}}) {
            if (exponent > 0 && bits < 3) continue;
            const ElementType element = exponent == -1 ? ElementType::integer(bits)
                                        : exponent == 0
                                            ? ElementType::unsigned_integer(bits)
                                            : ElementType::minifloat(exponent, bits - 1 - exponent);
            WeightFormat format = WeightFormat::scaled(element, block, scales[turn++ % scales.size()]);
            format.zero_point = zero;
            const auto activation = activation_by_name(activation_name);
            if (!can_lay_out(format, activation)) continue;
            auto [n, k] = sizes[turn % sizes.size()];
            if (block.n == 1 && block.k > 0) k = (k / 200 + 1) * block.k;
            const RandomWeight weight(format, n, k, static_cast<std::uint32_t>(turn));
            const WeightLayout layout =
                weight_layout(format, activation, turn % 7 == 0 ? Accuracy::kHigh : Accuracy::kDefault);
            SCOPED_TRACE(formats::to_string(format) + " by " + activation_name);
            expect_same(weight.source(), layout);
            if (HasFatalFailure()) return;
            ++count;
          }
  EXPECT_GT(count, 500);
}

TEST(DevicePacking, PartsAndSecondScalesAndExtremeScales) {
  const RandomWeight gate(format_by_name("nvfp4"), 70, 128, 1), up(format_by_name("nvfp4"), 50, 128, 2);
  WeightSource both = gate.source();
  both.parts.push_back(up.source().parts[0]);
  both.second_scale = 0.37f;
  expect_same(both, weight_layout(both.format));
  // Every second row of an interleaved tensor.
  const RandomWeight wide(format_by_name("mxfp4"), 128, 96, 3);
  WeightSource halves = wide.source();
  halves.parts[0].rows = 64;
  halves.parts[0].row_stride *= 2;
  halves.parts[0].scale_row_stride *= 2;
  expect_same(halves, weight_layout(halves.format));
  // Scales that move into the factors, and scales that vanish beside them.
  RandomWeight large(format_by_name("mxfp4"), 33, 128, 4);
  for (std::size_t i = 0; i < large.scales.size(); ++i) large.scales[i] = static_cast<std::byte>(i % 255);
  expect_same(large.source(), weight_layout(large.format));
  RandomWeight int4(format_by_name("int4g64"), 33, 128, 5);
  for (std::size_t i = 0; i + 1 < int4.scales.size(); i += 2) {
    int4.scales[i] = static_cast<std::byte>(i * 7);
    int4.scales[i + 1] = static_cast<std::byte>(i % 127);
  }
  expect_same(int4.source(), weight_layout(int4.format));
}

TEST(DevicePacking, FoldedWeights) {
  const WeightFormat mxfp4 = WeightFormat::mxfp4();
  const WeightLayout layout = weight_layout(mxfp4, activation_by_name("fp8"));
  for (const auto& [n, k] : {std::pair{33, 384}, {130, 1280}, {64, 32}, {70, 416}})
    expect_same(RandomWeight(mxfp4, n, k, 7).source(), layout);
  // Groups that are rounded by 1 to 20 binades, groups and a row of zeros.
  RandomWeight far(mxfp4, 70, 96 * 32, 3);
  const auto zeros = [&](std::int64_t row, std::int64_t group, std::byte codes) {
    std::fill_n(far.values.begin() + row * far.row_bytes + group * 16, 16, codes);
  };
  for (std::int64_t row = 0; row < far.n; ++row)
    for (std::int64_t group = 0; group < far.groups; ++group) {
      far.scales[static_cast<std::size_t>(row * far.groups + group)] =
          static_cast<std::byte>((row % 3 == 0   ? 222
                                  : row % 3 == 1 ? 0
                                                 : 100) +
                                 (group + row) % 32);
      if (row % 5 == 1 && group % 9 == row % 9) zeros(row, group, std::byte{0x88});
      if (row == 4) zeros(row, group, std::byte{0x08});
    }
  expect_same(far.source(), layout);
  // Interleaved rows at addresses that no vector load takes.
  far.values.insert(far.values.begin(), std::byte{0x5a});
  WeightSource halves = far.source();
  halves.parts[0].values += 1;
  halves.parts[0].rows = 35;
  halves.parts[0].row_stride *= 2;
  halves.parts[0].scale_row_stride *= 2;
  halves.parts.push_back(halves.parts[0]);
  halves.parts[1].values += far.row_bytes;
  halves.parts[1].scales += far.scale_row_bytes;
  expect_same(halves, layout);
}

TEST(DevicePacking, TroubleOfFoldedWeights) {
  // One weight of 0.5 and others 2^-12 of it, which become zeros; 67 of them take less than 0.002 of the
  // norm.
  for (const auto& [count, exponent, trouble] :
       {std::tuple{67, 115, false}, {68, 115, true}, {0, 255, true}}) {
    RandomWeight weight(WeightFormat::mxfp4(), 1, 128, 3);
    for (int i = 0; i < 64; ++i) {
      const auto code = [&, n = count](int c) { return c == 0 || (c >= 32 && c < 32 + n) ? 1u : 0u; };
      weight.values[static_cast<std::size_t>(i)] = static_cast<std::byte>(code(2 * i) | code(2 * i + 1) << 4);
    }
    for (std::size_t group = 0; group < 4; ++group)
      weight.scales[group] = static_cast<std::byte>(group == 0 ? 127 : exponent);
    const WeightLayout layout = weight_layout(weight.format, activation_by_name("fp8"));
    EXPECT_EQ(pack_as_device(weight.source(), layout).trouble, trouble) << count;
    if (trouble)
      EXPECT_THROW(pack_weight(weight.source(), layout), Error) << count;
    else
      expect_same(weight.source(), layout);
  }
}

TEST(DevicePacking, TroubleIsSeen) {
  RandomWeight nan(format_by_name("fp8row"), 3, 64, 1);
  nan.values[70] = std::byte{0xff};
  EXPECT_TRUE(pack_as_device(nan.source(), weight_layout(nan.format)).trouble);
  RandomWeight scale(format_by_name("int4g64"), 3, 64, 1);
  scale.scales[3] = std::byte{0x7f};
  scale.scales[2] = std::byte{0x80};
  EXPECT_TRUE(pack_as_device(scale.source(), weight_layout(scale.format)).trouble);
  RandomWeight exponent(format_by_name("mxfp4"), 3, 64, 1);
  exponent.scales[3] = std::byte{0xff};
  EXPECT_TRUE(pack_as_device(exponent.source(), weight_layout(exponent.format)).trouble);
  // FP16 operands hold scales of few binades.
  RandomWeight far(format_by_name("float6e3m2:g32:float8e8m0"), 3, 64, 1);
  far.scales[0] = std::byte{60};
  const WeightLayout layout = weight_layout(far.format, formats::ActivationFormat::fp16());
  EXPECT_THROW(pack_weight(far.source(), layout), Error);
  EXPECT_TRUE(pack_as_device(far.source(), layout).trouble);
  WeightSource many = nan.source();
  many.parts.assign(5, many.parts[0]);
  EXPECT_THAT(can_pack_on_device(many, layout).reason, ::testing::HasSubstr("5 parts"));
}

TEST(DevicePacking, CompilesWithoutSpills) {
  jit::Compiler compiler;
  if (const Feasibility feasible = compiler.available(); !feasible) GTEST_SKIP() << feasible.reason;
  std::vector<jit::KernelSource> sources;
  for (const char* architecture : {"sm_80", "sm_90a", "sm_120a"})
    for (const auto& [name, activation] : {std::pair{"mxfp4", "bf16"},
                                           {"int4g128", "bf16"},
                                           {"fp8row", "bf16"},
                                           {"nvfp4", "bf16"},
                                           {"int8:row:fp32", "bf16"},
                                           {"mxfp4", "fp8"},
                                           {"int4g128", "fp8"},
                                           {"uint7:row:fp32:zp", "fp16"},
                                           {"uint3:g32:fp32:zp", "fp8"}}) {
      if (architecture != std::string("sm_90a") && name != std::string("nvfp4")) continue;
      const WeightFormat format = format_by_name(name);
      sources.push_back(
          packer_source(pack_layout(format, weight_layout(format, activation_by_name(activation))),
                        jit::Architecture::parse(architecture)));
      sources.back().name += fmt::format(", {} for {}", name, architecture);
    }
  const std::vector<jit::CompileOutcome> outcomes = compiler.compile_all(sources);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    SCOPED_TRACE(sources[i].name);
    ASSERT_NE(outcomes[i].kernels, nullptr) << outcomes[i].error;
    EXPECT_EQ(outcomes[i].kernels->warnings, "");
    for (const char* kernel : {"pack_scan", "pack_words"}) {
      const jit::KernelResources& resources = outcomes[i].kernels->function(kernel).resources;
      EXPECT_EQ(resources.spill_store_bytes + resources.spill_load_bytes + resources.stack_bytes, 0);
      EXPECT_LE(resources.registers, 48) << kernel;
    }
  }
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
