// The device text of the quantizers, compiled for the host, against formats/quantize.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>

#include "formats/numeric/element_type.h"
#include "formats/numeric/float16.h"
#include "formats/quantize/activations.h"
#include "kernels/cuda/gemm/activation_quantizer.h"

// clang-format off: device text needs the shim before it.
#include "device_shim.h"
#include "kernels/cuda/device/quantize_values.cuh"
// clang-format on

namespace sabrewing::kernels::cuda {
namespace {

using formats::ActivationFormat;
using formats::ElementType;

constexpr std::int64_t kGroup = 32;

/// Groups of 32 numbers of the type as codes: random ones in every range, and those with peculiar members.
std::vector<std::uint16_t> inputs(ElementType type) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  std::vector<std::uint16_t> codes;
  const auto add = [&](double value) { codes.push_back(static_cast<std::uint16_t>(encode(type, value))); };
  const int range = type == formats::kBF16 ? 150 : 26;
  for (int g = 0; g < 4000; ++g) {
    const double unit =
        std::ldexp(1.0, static_cast<int>(random() % static_cast<unsigned>(2 * range)) - range);
    for (int i = 0; i < kGroup; ++i) add(unit * normal(random));
  }
  // A wide spread inside a group; every code as it comes, NaN and infinities among them.
  for (int g = 0; g < 500; ++g)
    for (int i = 0; i < kGroup; ++i) add(std::ldexp(normal(random), static_cast<int>(random() % 24) - 20));
  for (int g = 0; g < 500; ++g)
    for (int i = 0; i < kGroup; ++i) codes.push_back(static_cast<std::uint16_t>(random()));
  // Halfway cases: with a largest number of 448 * 2^e and its like the scales are powers of two.
  for (const double top : {448.0, 57344.0, 127.0, 7.0, 6.0})
    for (int g = 0; g < 200; ++g) {
      add(top);
      for (int i = 1; i < kGroup; ++i) add(std::ldexp(static_cast<double>(random() % 256) - 128, g % 8 - 4));
    }
  for (const double odd : {0.0, -0.0, 1.0, static_cast<double>(NAN), static_cast<double>(INFINITY), -1e-40}) {
    for (int i = 0; i < kGroup; ++i) add(i == 5 ? odd : 0.0);
    for (int i = 0; i < kGroup; ++i) add(i == 31 ? odd : -3.0);
  }
  return codes;
}

template <typename Input, typename Code, bool kExponents>
void compare(ElementType input, ElementType element) {
  using Quantizer = device::Quantizer<Input, Code, kExponents>;
  const auto format =
      ActivationFormat::per_group(element, kGroup, kExponents ? formats::kE8M0 : formats::kFP32);
  const std::vector<std::uint16_t> all = inputs(input);
  int not_finite = 0, zeros = 0;
  for (std::size_t at = 0; at < all.size(); at += kGroup) {
    std::vector<float> row;
    std::uint32_t words[kGroup / 8][4], largest = 0;
    std::memcpy(words, all.data() + at, sizeof words);
    for (int i = 0; i < kGroup; ++i)
      row.push_back(formats::decode(input, all[at + static_cast<std::size_t>(i)]));
    for (const auto& vector : words) largest = Quantizer::largest(largest, vector);
    const device::GroupScale scale = Quantizer::scale(std::max(largest & 0xffff, largest >> 16));
    std::vector<std::uint8_t> expected(kGroup);
    std::vector<float> expected_scale(1);
    formats::quantize_row(format, row, expected, expected_scale);
    const float unit = element == formats::kE2M1 ? 0.5f : 1.0f;
    const float stored = kExponents ? formats::decode(formats::kE8M0, Quantizer::stored_exponent(scale))
                                    : Quantizer::stored_float(scale);
    if (std::isnan(expected_scale[0])) {
      ++not_finite;
      ASSERT_TRUE(std::isnan(stored)) << at;
    } else {
      ASSERT_EQ(stored, expected_scale[0] * unit) << at;
    }
    zeros += expected_scale[0] == 1.0f;
    for (int v = 0; v < kGroup / 8; ++v) {
      std::uint32_t codes[2];
      Quantizer::codes(words[v], scale, codes);
      for (int i = 0; i < 8; ++i) {
        const auto e = static_cast<std::size_t>(v * 8 + i);
        const std::uint32_t got = codes[i / 4] >> (i % 4 * 8) & 0xff;
        std::uint32_t want = expected[e];
        if (element.bits == 4)
          want = static_cast<std::uint8_t>(static_cast<int>(formats::decode(element, want) / unit));
        ASSERT_EQ(got, want) << formats::to_string(format) << " of " << formats::to_string(input) << ": "
                             << row[e] << " / " << expected_scale[0] << ", group " << at / kGroup;
      }
    }
  }
  EXPECT_GT(not_finite, 10);
  EXPECT_GT(zeros, 3);
}

template <typename Input>
void compare_all(ElementType input) {
  using namespace device;
  compare<Input, E4M3Code, false>(input, formats::kE4M3);
  compare<Input, E4M3Code, true>(input, formats::kE4M3);
  compare<Input, E5M2Code, false>(input, formats::kE5M2);
  compare<Input, E5M2Code, true>(input, formats::kE5M2);
  compare<Input, IntCode<8>, false>(input, ElementType::integer(8));
  compare<Input, IntCode<8>, true>(input, ElementType::integer(8));
  compare<Input, IntCode<4>, false>(input, ElementType::integer(4));
  compare<Input, IntCode<4>, true>(input, ElementType::integer(4));
  compare<Input, Fp4Code, false>(input, formats::kE2M1);
  compare<Input, Fp4Code, true>(input, formats::kE2M1);
}

TEST(Quantizers, DeviceTextMatchesTheReferenceForBf16) { compare_all<device::Bf16Input>(formats::kBF16); }
TEST(Quantizers, DeviceTextMatchesTheReferenceForFp16) { compare_all<device::F16Input>(formats::kFP16); }

TEST(Quantizers, CompileWithoutSpills) {
  jit::Compiler compiler;
  if (const Feasibility feasible = compiler.available(); !feasible) GTEST_SKIP() << feasible.reason;
  std::vector<jit::KernelSource> sources;
  const auto sm90 = jit::Architecture::parse("sm_90a");
  const ElementType int8 = ElementType::integer(8);
  for (const ElementType element :
       {formats::kE4M3, formats::kE5M2, formats::kE2M1, int8, ElementType::integer(4)})
    sources.push_back(quantizer_source(ActivationFormat::per_token(element), DType::kBF16, sm90));
  for (const ActivationFormat& format :
       {ActivationFormat::per_group(formats::kE4M3, 128, formats::kFP32),
        ActivationFormat::per_group(int8, 64, formats::kFP32), ActivationFormat::mx(formats::kE4M3),
        ActivationFormat::mx(formats::kE2M1)})
    sources.push_back(quantizer_source(format, DType::kBF16, sm90));
  sources.push_back(quantizer_source(ActivationFormat::per_token(formats::kE4M3), DType::kF16, sm90));
  for (const char* architecture : {"sm_80", "sm_89", "sm_100a", "sm_120a"}) {
    const bool fp8 = std::string(architecture) != "sm_80";
    sources.push_back(quantizer_source(ActivationFormat::per_token(fp8 ? formats::kE4M3 : int8), DType::kBF16,
                                       jit::Architecture::parse(architecture)));
  }
  const std::vector<jit::CompileOutcome> outcomes = compiler.compile_all(sources);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    SCOPED_TRACE(sources[i].name);
    ASSERT_NE(outcomes[i].kernels, nullptr) << outcomes[i].error;
    EXPECT_EQ(outcomes[i].kernels->warnings, "");
    for (const jit::CompiledKernels::Function& function : outcomes[i].kernels->functions) {
      const jit::KernelResources& resources = function.resources;
      EXPECT_EQ(resources.spill_store_bytes + resources.spill_load_bytes + resources.stack_bytes, 0);
      EXPECT_LE(resources.registers, 64) << function.lowered_name;
    }
  }
}

TEST(Quantizers, RefusalsNameTheRule) {
  const auto sm90 = jit::Architecture::parse("sm_90a"), sm80 = jit::Architecture::parse("sm_80");
  const auto reason = [](const QuantizeDesc& desc, jit::Architecture architecture) {
    return ActivationQuantizer::can_implement(desc, architecture).reason;
  };
  const ActivationFormat fp8 = ActivationFormat::per_token(formats::kE4M3);
  EXPECT_TRUE(ActivationQuantizer::can_implement({fp8, DType::kBF16, 2880}, sm90));
  EXPECT_THAT(reason({fp8, DType::kBF16, 2880}, sm80), ::testing::HasSubstr("SM89"));
  EXPECT_THAT(reason({fp8, DType::kF32, 2880}, sm90), ::testing::HasSubstr("BF16 and F16"));
  EXPECT_THAT(reason({fp8, DType::kBF16, 2884}, sm90), ::testing::HasSubstr("multiple of 8"));
  EXPECT_THAT(
      reason({ActivationFormat::per_group(formats::kE4M3, 96, formats::kFP32), DType::kBF16, 96}, sm90),
      ::testing::HasSubstr("32, 64 or 128"));
  EXPECT_THAT(reason({ActivationFormat::bf16(), DType::kBF16, 96}, sm90), ::testing::HasSubstr("are made"));
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
