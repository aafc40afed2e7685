// The matrix products of the CPU backend in every tier against float64 arithmetic on values decoded here.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/buffer.h"
#include "core/error.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/pack.h"

namespace sabrewing::kernels::cpu {
namespace {

using formats::ActivationFormat;
using formats::WeightFormat;

constexpr double kE2M1[16] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6};

double decode_e8m0(std::uint8_t code) { return code == 255 ? std::nan("") : std::ldexp(1.0, code - 127); }

double decode_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const double mantissa = bits & 0x3ff;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

/// Nearest BF16, ties to even, by decimal reasoning on the significand; for finite values of ordinary size.
double round_bf16(double x) {
  if (x == 0) return x;
  const double unit = std::ldexp(1.0, std::ilogb(x) - 7);
  return std::nearbyint(x / unit) * unit;
}

/// A weight in checkpoint layout with the values it stands for.
struct Weight {
  WeightFormat format;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::vector<std::uint8_t> values;
  std::vector<std::uint8_t> scales;
  std::vector<double> decoded;

  WeightSource source() const {
    WeightRows rows;
    rows.values = reinterpret_cast<const std::byte*>(values.data());
    rows.row_stride = static_cast<std::int64_t>(values.size()) / n;
    rows.scales = scales.empty() ? nullptr : reinterpret_cast<const std::byte*>(scales.data());
    rows.scale_row_stride = static_cast<std::int64_t>(scales.size()) / n;
    rows.rows = n;
    return {format, k, {rows}};
  }
};

void put(std::vector<std::uint8_t>& bytes, std::size_t at, const void* from, std::size_t size) {
  std::memcpy(bytes.data() + at, from, size);
}

Weight random_weight(const WeightFormat& format, std::int64_t n, std::int64_t k, std::mt19937& random,
                     int scale_low = 118, int scale_high = 126) {
  Weight w{format, n, k, {}, {}, {}};
  const auto count = static_cast<std::size_t>(n * k);
  w.decoded.resize(count);
  std::normal_distribution<float> normal(0, 0.05f);
  if (format == WeightFormat::mxfp4()) {
    w.values.resize(count / 2);
    w.scales.resize(count / 32);
    for (auto& v : w.values) v = static_cast<std::uint8_t>(random());
    for (auto& s : w.scales)
      s = static_cast<std::uint8_t>(std::uniform_int_distribution<int>(scale_low, scale_high)(random));
    for (std::size_t i = 0; i < count; ++i)
      w.decoded[i] = kE2M1[w.values[i / 2] >> (i % 2 * 4) & 15] * decode_e8m0(w.scales[i / 32]);
  } else if (format == WeightFormat::fp32()) {
    w.values.resize(count * 4);
    for (std::size_t i = 0; i < count; ++i) {
      const float v = normal(random);
      put(w.values, i * 4, &v, 4);
      w.decoded[i] = v;
    }
  } else {
    w.values.resize(count * 2);
    const bool bf16 = format == WeightFormat::bf16();
    for (std::size_t i = 0; i < count; ++i) {
      // Any finite pattern near 1 in magnitude or, for FP16, any subnormal too.
      std::uint16_t bits = static_cast<std::uint16_t>(random());
      if (bf16) {
        const float v = normal(random);
        std::uint32_t word = 0;
        std::memcpy(&word, &v, 4);
        bits = static_cast<std::uint16_t>(word >> 16);
        word &= 0xffff0000;
        float kept = 0;
        std::memcpy(&kept, &word, 4);
        w.decoded[i] = kept;
      } else {
        bits &= 0xbfff;  // exponent below 16: magnitudes below 2
        w.decoded[i] = decode_half(bits);
      }
      put(w.values, i * 2, &bits, 2);
    }
  }
  return w;
}

enum class Mode { kExact, kInt8, kBF16, kInt16 };

ActivationFormat activation_of(Mode mode) {
  switch (mode) {
    case Mode::kInt8:
      return ActivationFormat::per_group(formats::ElementType::integer(8), 32, formats::kFP32);
    case Mode::kInt16:
      return ActivationFormat::per_group(formats::ElementType::integer(16), 32, formats::kFP32);
    case Mode::kBF16:
      return ActivationFormat::bf16();
    default:
      return ActivationFormat::fp32();
  }
}

GemmDesc describe(const Weight& w, Mode mode, bool bias, DType output = DType::kF32) {
  return {w.format,
          activation_of(mode),
          output,
          w.n,
          w.k,
          bias,
          mode == Mode::kExact ? Accuracy::kExact : Accuracy::kDefault};
}

constexpr float kCanary = -12345.5f;

/// c with a canary before, between and after the rows.
std::vector<float> run_gemm(const Gemm& gemm, const Weight& w, Mode mode, const std::vector<float>& a,
                            std::int64_t m, const float* bias) {
  const GemmPlanPtr plan = gemm.plan(describe(w, mode, bias != nullptr));
  const PackedWeight packed = gemm.pack(*plan, w.source());
  HostBuffer workspace(plan->workspace_bytes(m));
  const std::int64_t stride = w.n + 3;
  std::vector<float> c(static_cast<std::size_t>((m + 1) * stride + 3), kCanary);
  GemmArgs args;
  args.a = {const_cast<float*>(a.data()), DType::kF32, m, w.k, w.k};
  args.b = &packed;
  args.bias = bias;
  args.c = {c.data() + 3, DType::kF32, m, w.n, stride};
  args.workspace = workspace.data();
  gemm.run(*plan, args);
  std::vector<float> result;
  for (std::int64_t i = 0; i < m; ++i) {
    const float* row = c.data() + 3 + i * stride;
    result.insert(result.end(), row, row + w.n);
    EXPECT_EQ(row[w.n], kCanary) << "row " << i;
    EXPECT_EQ(row[-1], kCanary) << "row " << i;
  }
  return result;
}

std::vector<float> random_activations(std::int64_t m, std::int64_t k, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> a(static_cast<std::size_t>(m * k));
  for (auto& v : a) v = normal(random);
  return a;
}

/// Rounds each group of 32 of a row to multiples of its largest magnitude / steps.
template <typename T>
void round_groups(const std::vector<T>& from, std::int64_t k, float steps, std::vector<double>& to) {
  const auto row = static_cast<std::size_t>(k);
  for (std::size_t first = 0; first < from.size();) {
    const std::size_t end = std::min(first + 32, (first / row + 1) * row);
    float largest = 0;
    for (std::size_t i = first; i < end; ++i)
      largest = std::max(largest, std::fabs(static_cast<float>(from[i])));
    // The definition rounds this product to FP32, which decides near ties.
    const float inverse = steps / largest;
    for (std::size_t i = first; i < end; ++i) {
      const float scaled = static_cast<float>(from[i]) * inverse;
      to[i] = largest == 0 ? 0 : std::nearbyint(double{scaled}) * double{largest} / double{steps};
    }
    first = end;
  }
}

/// What the inner product sees, by the definition of each activation format.
std::vector<double> seen_activations(Mode mode, const std::vector<float>& a, std::int64_t k) {
  std::vector<double> seen(a.begin(), a.end());
  if (mode == Mode::kBF16)
    for (auto& v : seen) v = round_bf16(v);
  if (mode == Mode::kInt8) round_groups(a, k, 127, seen);
  if (mode == Mode::kInt16) round_groups(a, k, 16383, seen);
  return seen;
}

struct Case {
  WeightFormat format;
  Mode mode;
};

struct Shape {
  std::int64_t n, k;
};

class CpuGemm : public testing::TestWithParam<CpuTier> {
 protected:
  void SetUp() override {
    if (!supports(cpu_features(), GetParam()))
      GTEST_SKIP() << "this processor lacks " << to_string(GetParam());
  }
  Gemm gemm(ThreadPool& pool) const { return {GetParam(), cpu_features(), pool}; }
};

void check_products(const Gemm& gemm, const Case& c, const Shape& shape, std::mt19937& random) {
  SCOPED_TRACE(testing::Message() << formats::to_string(c.format) << " mode " << static_cast<int>(c.mode)
                                  << " N " << shape.n << " K " << shape.k);
  constexpr std::int64_t kRows = 128;
  const Weight w = random_weight(c.format, shape.n, shape.k, random);
  const std::vector<float> a = random_activations(kRows, shape.k, random);
  const std::vector<double> seen = seen_activations(c.mode, a, shape.k);
  std::vector<double> seen_weights = w.decoded;
  if (c.mode == Mode::kInt16) round_groups(w.decoded, shape.k, 4095, seen_weights);
  std::vector<float> bias(static_cast<std::size_t>(shape.n));
  for (auto& b : bias) b = std::normal_distribution<float>(0, 1)(random);
  const std::vector<float> result = run_gemm(gemm, w, c.mode, a, kRows, bias.data());

  // Rounding of a chain of K additions; for int8 also of the scales.
  const double unit = std::ldexp(1.0, -24) * (static_cast<double>(shape.k) / 4 + 4);
  const std::int64_t check_rows = shape.n * shape.k > 300000 ? 17 : kRows;
  std::int64_t bad = 0;
  for (std::int64_t i = 0; i < check_rows; ++i) {
    for (std::int64_t j = 0; j < shape.n; ++j) {
      double sum = bias[static_cast<std::size_t>(j)];
      double size = std::fabs(sum);
      for (std::int64_t l = 0; l < shape.k; ++l) {
        const double product = seen[static_cast<std::size_t>(i * shape.k + l)] *
                               seen_weights[static_cast<std::size_t>(j * shape.k + l)];
        sum += product;
        size += std::fabs(product);
      }
      const double bound = size * (unit + (c.mode == Mode::kInt8 || c.mode == Mode::kInt16 ? 1e-6 : 0));
      const double got = result[static_cast<std::size_t>(i * shape.n + j)];
      if (!(std::fabs(got - sum) <= bound) && bad++ < 5)
        ADD_FAILURE() << "(" << i << ", " << j << ") is " << got << ", " << sum << " +- " << bound
                      << " expected";
    }
  }
  EXPECT_EQ(bad, 0);

  std::vector<std::int64_t> rows = {63, 64, 65};
  for (std::int64_t m = 1; m <= 17; ++m) rows.push_back(m);
  for (const std::int64_t m : rows) {
    const std::vector<float> part = run_gemm(gemm, w, c.mode, a, m, bias.data());
    EXPECT_EQ(std::memcmp(part.data(), result.data(), part.size() * sizeof(float)), 0)
        << "the first " << m << " of " << kRows << " rows differ when computed alone";
  }
}

TEST_P(CpuGemm, MatchesFloat64AndDoesNotDependOnM) {
  ThreadPool pool(2);
  const Gemm kernels = gemm(pool);
  std::mt19937 random(1);
  std::vector<Case> cases = {{WeightFormat::bf16(), Mode::kExact}, {WeightFormat::fp16(), Mode::kExact},
                             {WeightFormat::fp32(), Mode::kExact}, {WeightFormat::mxfp4(), Mode::kExact},
                             {WeightFormat::mxfp4(), Mode::kInt8}, {WeightFormat::bf16(), Mode::kBF16}};
  const std::vector<Shape> shapes = {{1, 32},   {15, 64},    {16, 96},  {17, 192},
                                     {33, 544}, {192, 1056}, {65, 2880}};
  if (GetParam() == CpuTier::kAvx512) cases.push_back({WeightFormat::bf16(), Mode::kInt16});
  for (const Case& c : cases)
    for (const Shape& shape : shapes) check_products(kernels, c, shape, random);
  for (const Case& c : cases) {
    if (c.format == WeightFormat::mxfp4()) continue;
    for (const Shape& shape : {Shape{33, 33}, Shape{16, 1}, Shape{31, 257}})
      check_products(kernels, c, shape, random);
  }
}

TEST_P(CpuGemm, WideOutput) {
  ThreadPool pool(2);
  std::mt19937 random(2);
  check_products(gemm(pool), {WeightFormat::mxfp4(), Mode::kInt8}, {2880, 128}, random);
  check_products(gemm(pool), {WeightFormat::bf16(), Mode::kExact}, {2880, 65}, random);
}

TEST_P(CpuGemm, EveryCodeIsExact) {
  // One unit activation at a time reads out single weights.
  ThreadPool pool(1);
  const Gemm kernels = gemm(pool);
  constexpr std::int64_t kK = 64;
  Weight w{WeightFormat::mxfp4(),
           17,
           kK,
           std::vector<std::uint8_t>(17 * kK / 2),
           std::vector<std::uint8_t>(17 * 2),
           {}};
  for (std::size_t i = 0; i < w.values.size(); ++i) w.values[i] = static_cast<std::uint8_t>(i * 37 + i / 32);
  const std::uint8_t scales[] = {0, 1, 2, 23, 100, 127, 150, 200, 251, 252};
  for (std::size_t i = 0; i < w.scales.size(); ++i) w.scales[i] = scales[i % std::size(scales)];
  std::vector<float> a(kK * kK);
  for (std::size_t i = 0; i < kK; ++i) a[i * kK + i] = 1;
  const std::vector<float> exact = run_gemm(kernels, w, Mode::kExact, a, kK, nullptr);
  const std::vector<float> quantized = run_gemm(kernels, w, Mode::kInt8, a, kK, nullptr);
  for (std::size_t row = 0; row < 17; ++row) {
    for (std::size_t i = 0; i < kK; ++i) {
      const std::size_t at = row * kK + i;
      const double value = kE2M1[w.values[at / 2] >> (at % 2 * 4) & 15] * decode_e8m0(w.scales[at / 32]);
      EXPECT_EQ(exact[i * 17 + row], value) << row << " " << i;
      // The product of the scales may be subnormal: half of 2^-149 times the largest sum, 127 * 12.
      EXPECT_NEAR(quantized[i * 17 + row], value, std::fabs(value) * 3e-7 + 1.1e-42) << row << " " << i;
    }
  }
  // Few rows take other paths.
  for (const std::int64_t rows : {1, 9}) {
    const std::vector<float> few = run_gemm(
        kernels, w, Mode::kInt8, std::vector<float>(a.begin(), a.begin() + rows * kK), rows, nullptr);
    for (std::size_t i = 0; i < few.size(); ++i) EXPECT_EQ(few[i], quantized[i]) << rows << " " << i;
  }
}

TEST_P(CpuGemm, ExtremeScales) {
  ThreadPool pool(1);
  const Gemm kernels = gemm(pool);
  std::mt19937 random(3);
  std::vector<float> a = random_activations(3, 64, random);
  for (auto& v : a) v *= 0.01f;
  for (const Mode mode : {Mode::kExact, Mode::kInt8}) {
    // 2^127 with codes up to 1.5 stays finite; 2^-127 is subnormal.
    Weight large = random_weight(WeightFormat::mxfp4(), 16, 64, random, 254, 254);
    for (auto& v : large.values) v &= 0xbb;
    for (const float c : run_gemm(kernels, large, mode, a, 3, nullptr)) {
      EXPECT_TRUE(std::isfinite(c)) << c;
      EXPECT_GT(std::fabs(c), 1e33f);
    }
    const Weight small = random_weight(WeightFormat::mxfp4(), 16, 64, random, 0, 0);
    for (const float c : run_gemm(kernels, small, mode, a, 3, nullptr)) EXPECT_LT(std::fabs(c), 1e-37f);
    Weight nan = random_weight(WeightFormat::mxfp4(), 16, 64, random);
    nan.scales[5 * 2 + 1] = 255;
    const std::vector<float> c = run_gemm(kernels, nan, mode, a, 3, nullptr);
    for (std::size_t i = 0; i < c.size(); ++i) EXPECT_EQ(std::isnan(c[i]), i % 16 == 5) << i;
  }
}

TEST_P(CpuGemm, ZerosAndNonFiniteActivations) {
  ThreadPool pool(1);
  const Gemm kernels = gemm(pool);
  std::mt19937 random(4);
  for (const Case& c : {Case{WeightFormat::mxfp4(), Mode::kInt8}, Case{WeightFormat::mxfp4(), Mode::kExact},
                        Case{WeightFormat::bf16(), Mode::kExact}}) {
    const Weight w = random_weight(c.format, 17, 64, random);
    std::vector<float> a(5 * 64, 0.0f);
    for (std::size_t i = 64; i < 128; ++i) a[i] = 1e-40f;
    a[2 * 64 + 40] = std::numeric_limits<float>::quiet_NaN();
    a[3 * 64 + 33] = std::numeric_limits<float>::infinity();
    for (std::size_t i = 256; i < 320; ++i) a[i] = i % 2 != 0 ? 3e37f : -3e37f;
    const std::vector<float> out = run_gemm(kernels, w, c.mode, a, 5, nullptr);
    for (std::size_t j = 0; j < 17; ++j) {
      EXPECT_EQ(out[j], 0) << j;
      EXPECT_LT(std::fabs(out[17 + j]), 1e-38f) << j;
      EXPECT_TRUE(std::isnan(out[34 + j])) << j;
      EXPECT_FALSE(std::isfinite(out[51 + j]) && w.decoded[j * 64 + 33] != 0) << j;
      EXPECT_FALSE(std::isnan(out[68 + j])) << j;
    }
  }
}

TEST_P(CpuGemm, QuantizationErrorBound) {
  ThreadPool pool(1);
  const Gemm kernels = gemm(pool);
  std::mt19937 random(5);
  const Weight w = random_weight(WeightFormat::mxfp4(), 64, 2880, random);
  const std::vector<float> a = random_activations(16, 2880, random);
  const std::vector<float> exact = run_gemm(kernels, w, Mode::kExact, a, 16, nullptr);
  const std::vector<float> fast = run_gemm(kernels, w, Mode::kInt8, a, 16, nullptr);
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    error += std::pow(double{exact[i]} - fast[i], 2);
    size += std::pow(double{exact[i]}, 2);
  }
  EXPECT_LT(std::sqrt(error / size), 0.01);
  EXPECT_GT(std::sqrt(error / size), 0.001);
}

TEST(CpuGemmInt16, SpecialValuesAndErrorBound) {
  if (!supports(cpu_features(), CpuTier::kAvx512)) GTEST_SKIP() << "this processor lacks avx512";
  ThreadPool pool(1);
  const Gemm kernels(CpuTier::kAvx512, cpu_features(), pool);
  std::mt19937 random(13);
  Weight w = random_weight(WeightFormat::bf16(), 16, 2880, random);
  std::vector<float> a = random_activations(16, 2880, random);
  const std::vector<float> exact = run_gemm(kernels, w, Mode::kExact, a, 16, nullptr);
  const std::vector<float> fast = run_gemm(kernels, w, Mode::kInt16, a, 16, nullptr);
  const std::vector<float> bf16 = run_gemm(kernels, w, Mode::kBF16, a, 16, nullptr);
  const auto error = [&](const std::vector<float>& other) {
    double sum = 0;
    double size = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      sum += std::pow(double{exact[i]} - other[i], 2);
      size += std::pow(double{exact[i]}, 2);
    }
    return std::sqrt(sum / size);
  };
  EXPECT_LT(error(fast), 4e-4);
  EXPECT_LT(error(fast), error(bf16) / 4);

  const std::uint16_t infinity = 0x7f80;
  const std::uint16_t tiny = 0x0001;
  put(w.values, (3 * 2880 + 40) * 2, &infinity, 2);
  for (std::size_t i = 0; i < 2880; ++i) put(w.values, (5 * 2880 + i) * 2, &tiny, 2);
  std::fill_n(a.begin(), 2880, 0.0f);
  std::fill_n(a.begin() + 2880, 2880, 1e-40f);
  a[2 * 2880 + 7] = std::numeric_limits<float>::infinity();
  const std::vector<float> out = run_gemm(kernels, w, Mode::kInt16, a, 4, nullptr);
  for (std::size_t j = 0; j < 16; ++j) {
    if (j == 3) continue;
    EXPECT_EQ(out[j], 0) << j;
    EXPECT_EQ(out[16 + j], 0) << j;
    EXPECT_TRUE(std::isnan(out[32 + j])) << j;
    EXPECT_TRUE(j == 5 ? out[48 + j] == 0 : std::isfinite(out[48 + j])) << j;
  }
  for (std::size_t i = 0; i < 4; ++i) EXPECT_TRUE(std::isnan(out[i * 16 + 3])) << i;
}

TEST_P(CpuGemm, ThreadCountAndDtypes) {
  ThreadPool one(1);
  ThreadPool three(3);
  std::mt19937 random(6);
  const Weight w = random_weight(WeightFormat::mxfp4(), 200, 320, random);
  const std::vector<float> a = random_activations(500, 320, random);
  const std::vector<float> reference = run_gemm(gemm(one), w, Mode::kInt8, a, 500, nullptr);
  const std::vector<float> other = run_gemm(gemm(three), w, Mode::kInt8, a, 500, nullptr);
  EXPECT_EQ(std::memcmp(reference.data(), other.data(), other.size() * sizeof(float)), 0);

  // BF16 in and out, workspace of exactly the promised size, M below the planned maximum.
  const Gemm kernels = gemm(one);
  const GemmPlanPtr plan = kernels.plan(describe(w, Mode::kExact, false, DType::kBF16));
  const PackedWeight packed = kernels.pack(*plan, w.source());
  std::vector<std::uint16_t> in(193 * 320);
  std::vector<float> widened(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) {
    std::uint32_t word = 0;
    std::memcpy(&word, &a[i], 4);
    word &= 0xffff0000;
    in[i] = static_cast<std::uint16_t>(word >> 16);
    std::memcpy(&widened[i], &word, 4);
  }
  const std::vector<float> expected = run_gemm(kernels, w, Mode::kExact, widened, 192, nullptr);
  HostBuffer workspace(plan->workspace_bytes(193));
  std::vector<std::uint16_t> out(193 * 200);
  GemmArgs args;
  args.a = {in.data(), DType::kBF16, 192, 320, 320};
  args.b = &packed;
  args.c = {out.data(), DType::kBF16, 192, 200, 200};
  args.workspace = workspace.data();
  kernels.run(*plan, args);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const std::uint32_t word = std::uint32_t{out[i]} << 16;
    float value = 0;
    std::memcpy(&value, &word, 4);
    ASSERT_EQ(value, round_bf16(expected[i])) << i;
  }
  args.a.rows = args.c.rows = 0;
  args.workspace = nullptr;
  kernels.run(*plan, args);
}

TEST(CpuGemmFeatures, Avx512WithoutBf16Dot) {
  CpuFeatures features = cpu_features();
  if (!features.avx512) GTEST_SKIP() << "this processor lacks avx512";
  features.avx512_bf16 = features.fast_bf16_dot = false;
  ThreadPool pool(2);
  std::mt19937 random(12);
  const Gemm kernels(CpuTier::kAvx512, features, pool);
  EXPECT_EQ(kernels.preferred_activation(WeightFormat::bf16(), Accuracy::kDefault),
            activation_of(Mode::kInt16));
  check_products(kernels, {WeightFormat::bf16(), Mode::kBF16}, {33, 97}, random);
  features = cpu_features();
  if (!features.avx512_bf16) return;
  features.fast_bf16_dot = true;
  const Gemm dot(CpuTier::kAvx512, features, pool);
  EXPECT_EQ(dot.preferred_activation(WeightFormat::bf16(), Accuracy::kDefault), ActivationFormat::bf16());
  EXPECT_EQ(dot.preferred_activation(WeightFormat::bf16(), Accuracy::kExact), ActivationFormat::fp32());
}

TEST(CpuPack, RoundTrip) {
  ThreadPool pool(2);
  std::mt19937 random(7);
  for (const WeightFormat& format :
       {WeightFormat::bf16(), WeightFormat::fp16(), WeightFormat::fp32(), WeightFormat::mxfp4()}) {
    for (const std::int64_t k : {std::int64_t{32}, std::int64_t{96}, std::int64_t{33}}) {
      if (k == 33 && format == WeightFormat::mxfp4()) continue;
      for (const std::int64_t n : {1, 15, 16, 17, 100}) {
        const Weight w = random_weight(format, n, k, random, 0, 255);
        const PackedWeight packed = pack_gemm(w.source(), pool);
        EXPECT_EQ(packed.n, n);
        EXPECT_EQ(packed.padded_n % 16, 0);
        const UnpackedRows rows = unpack_rows(packed, 0, 0, n);
        ASSERT_EQ(rows.values.size(), w.values.size());
        EXPECT_EQ(std::memcmp(rows.values.data(), w.values.data(), w.values.size()), 0);
        ASSERT_EQ(rows.scales.size(), w.scales.size());
        EXPECT_TRUE(w.scales.empty() ||
                    std::memcmp(rows.scales.data(), w.scales.data(), w.scales.size()) == 0);
        std::vector<float> row(static_cast<std::size_t>(k));
        dequantize_row(packed, 0, n - 1, row.data());
        for (std::int64_t i = 0; i < k; ++i) {
          const auto value = static_cast<float>(w.decoded[static_cast<std::size_t>((n - 1) * k + i)]);
          EXPECT_TRUE(std::isnan(value) || row[static_cast<std::size_t>(i)] == value);
        }
        const PackedWeight again = pack_gemm(w.source(), pool);
        EXPECT_EQ(std::memcmp(again.bytes.data, packed.bytes.data, packed.bytes.bytes), 0);
      }
    }
  }
}

TEST(CpuPack, PartsAndStrides) {
  ThreadPool pool(1);
  std::mt19937 random(8);
  const Weight w = random_weight(WeightFormat::mxfp4(), 20, 64, random);
  WeightSource source = w.source();
  // Even rows, then odd rows, read from an unaligned copy.
  std::vector<std::byte> values(w.values.size() + 1);
  std::memcpy(values.data() + 1, w.values.data(), w.values.size());
  WeightRows even = source.parts[0];
  even.values = values.data() + 1;
  even.row_stride = 64;
  even.scale_row_stride = 4;
  even.rows = 10;
  WeightRows odd = even;
  odd.values += 32;
  odd.scales += 2;
  source.parts = {even, odd};
  const PackedWeight packed = pack_gemm(source, pool);
  std::vector<float> row(64);
  for (std::int64_t i = 0; i < 20; ++i) {
    dequantize_row(packed, 0, i, row.data());
    const std::int64_t from = i < 10 ? 2 * i : 2 * (i - 10) + 1;
    for (std::int64_t c = 0; c < 64; ++c)
      ASSERT_EQ(row[static_cast<std::size_t>(c)], w.decoded[static_cast<std::size_t>(from * 64 + c)])
          << i << " " << c;
  }
}

TEST(CpuPack, RefusesWrongShapes) {
  ThreadPool pool(1);
  std::mt19937 random(9);
  const Weight w = random_weight(WeightFormat::mxfp4(), 4, 64, random);
  WeightSource source = w.source();
  source.k = 48;
  EXPECT_THROW(pack_gemm(source, pool), Error);
  source.k = 128;
  EXPECT_THROW(pack_gemm(source, pool), Error);
  source = w.source();
  source.parts[0].scales = nullptr;
  EXPECT_THROW(pack_gemm(source, pool), Error);
  source = w.source();
  source.format = WeightFormat::nvfp4();
  EXPECT_THROW(pack_gemm(source, pool), Error);
  source = w.source();
  source.parts.clear();
  EXPECT_THROW(pack_gemm(source, pool), Error);
}

TEST(CpuGemmPlan, RefusalsNameTheRule) {
  ThreadPool pool(1);
  const Gemm kernels(CpuTier::kScalar, cpu_features(), pool);
  GemmDesc desc{WeightFormat::mxfp4(), ActivationFormat::bf16(), DType::kF32, 16, 64, false,
                Accuracy::kDefault};
  EXPECT_NE(kernels.can_implement(desc).reason.find("int8 g32"), std::string::npos);
  desc.activation = ActivationFormat::fp32();
  EXPECT_TRUE(kernels.can_implement(desc));
  desc.k = 48;
  EXPECT_NE(kernels.can_implement(desc).reason.find("48"), std::string::npos);
  EXPECT_THROW(kernels.plan(desc), Error);
  desc = {WeightFormat::bf16(), ActivationFormat::bf16(), DType::kF32, 16, 64, false, Accuracy::kExact};
  EXPECT_FALSE(kernels.can_implement(desc));
  desc.accuracy = Accuracy::kDefault;
  EXPECT_TRUE(kernels.can_implement(desc));
  desc.output = DType::kF16;
  EXPECT_FALSE(kernels.can_implement(desc));
  desc.output = DType::kF32;
  desc.n = 0;
  EXPECT_FALSE(kernels.can_implement(desc));
}

TEST(CpuGemmPlan, MismatchedOperandsAreErrors) {
  ThreadPool pool(1);
  const Gemm kernels(CpuTier::kScalar, cpu_features(), pool);
  std::mt19937 random(10);
  const Weight w = random_weight(WeightFormat::bf16(), 16, 32, random);
  const Weight other = random_weight(WeightFormat::bf16(), 17, 32, random);
  const GemmPlanPtr plan = kernels.plan(describe(w, Mode::kExact, false));
  const PackedWeight packed = kernels.pack(*plan, w.source());
  EXPECT_THROW(kernels.pack(*plan, other.source()), Error);
  const PackedWeight wrong = pack_gemm(other.source(), pool);
  HostBuffer workspace(plan->workspace_bytes(2) + 64);
  std::vector<float> a(64);
  std::vector<float> c(32);
  const GemmArgs good{{a.data(), DType::kF32, 2, 32, 32}, nullptr,         &packed, nullptr,
                      {c.data(), DType::kF32, 2, 16, 16}, workspace.data()};
  EXPECT_NO_THROW(kernels.run(*plan, good));
  GemmArgs args = good;
  args.b = &wrong;
  EXPECT_THROW(kernels.run(*plan, args), Error);
  args = good;
  args.bias = c.data();
  EXPECT_THROW(kernels.run(*plan, args), Error);
  args = good;
  args.a.cols = 31;
  EXPECT_THROW(kernels.run(*plan, args), Error);
  args = good;
  args.c.dtype = DType::kBF16;
  EXPECT_THROW(kernels.run(*plan, args), Error);
  args = good;
  args.workspace = workspace.data() + 1;
  EXPECT_THROW(kernels.run(*plan, args), Error);
}

TEST(CpuEmbed, LooksUpRows) {
  ThreadPool pool(2);
  const Gemm kernels(CpuTier::kScalar, cpu_features(), pool);
  std::mt19937 random(11);
  const Weight w = random_weight(WeightFormat::bf16(), 50, 33, random);
  const GemmPlanPtr plan = kernels.plan(describe(w, Mode::kExact, false));
  const PackedWeight packed = kernels.pack(*plan, w.source());
  const std::int32_t ids[] = {49, 0, 17, 17};
  std::vector<float> out(4 * 40, kCanary);
  kernels.embed(*plan, packed, ids, {out.data(), DType::kF32, 4, 33, 40});
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t c = 0; c < 33; ++c)
      ASSERT_EQ(out[i * 40 + c], w.decoded[static_cast<std::size_t>(ids[i]) * 33 + c]);
    ASSERT_EQ(out[i * 40 + 33], kCanary);
  }
  const std::int32_t outside[] = {50};
  EXPECT_THROW(kernels.embed(*plan, packed, outside, {out.data(), DType::kF32, 1, 33, 33}), Error);
  const std::int32_t negative[] = {-1};
  EXPECT_THROW(kernels.embed(*plan, packed, negative, {out.data(), DType::kF32, 1, 33, 33}), Error);
}

TEST(CpuTiers, NamesAndForcing) {
  for (const CpuTier tier : {CpuTier::kScalar, CpuTier::kAvx2, CpuTier::kAvx512}) {
    EXPECT_EQ(parse_cpu_tier(to_string(tier)), tier);
    if (supports(cpu_features(), tier))
      EXPECT_EQ(select_tier(to_string(tier)), tier);
    else
      EXPECT_THROW(select_tier(to_string(tier)), Error);
  }
  EXPECT_EQ(select_tier(""), best_tier(cpu_features()));
  EXPECT_THROW(select_tier("avx1024"), Error);
  EXPECT_THROW(select_panel_kernels(CpuTier::kAvx512, CpuFeatures{}), Error);
}

INSTANTIATE_TEST_SUITE_P(Tiers, CpuGemm, testing::Values(CpuTier::kScalar, CpuTier::kAvx2, CpuTier::kAvx512),
                         [](const auto& tier) { return std::string(to_string(tier.param)); });

TEST(CpuPack, ReportsBytesAfterTheirLastRead) {
  // Three parts whose borders are not those of slabs or panels; together more than a slab.
  constexpr std::int64_t kK = 1024;
  const std::int64_t rows = static_cast<std::int64_t>(kStagingBytes) / (kK * 4);
  std::vector<std::vector<std::uint16_t>> parts;
  WeightSource source;
  source.format = WeightFormat::bf16();
  source.k = kK;
  for (const std::int64_t count : {rows + 21, std::int64_t{3}, rows + 7}) {
    std::vector<std::uint16_t>& values = parts.emplace_back(static_cast<std::size_t>(count * kK));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<std::uint16_t>(((i * 40503) >> 7) ^ (i + parts.size()));
    WeightRows part;
    part.values = reinterpret_cast<const std::byte*>(values.data());
    part.row_stride = kK * 2;
    part.rows = count;
    source.parts.push_back(part);
  }
  ThreadPool pool(2);
  const PackedWeight expected = pack_gemm(source, pool);
  std::size_t reported = 0;
  std::size_t calls = 0;
  source.done = [&](std::span<const std::byte> bytes) {
    std::memset(const_cast<std::byte*>(bytes.data()), 0xff, bytes.size());
    EXPECT_LE(bytes.size(), kStagingBytes);
    reported += bytes.size();
    ++calls;
  };
  const PackedWeight packed = pack_gemm(source, pool);
  EXPECT_EQ(std::memcmp(packed.bytes.data, expected.bytes.data, expected.bytes.bytes), 0);
  EXPECT_EQ(reported, static_cast<std::size_t>((2 * rows + 31) * kK * 2));
  EXPECT_GE(calls, 4u);
  for (const auto& values : parts)
    for (const std::uint16_t value : values) ASSERT_EQ(value, 0xffff);

  // Rows that lie between those of another part are not reported.
  source.parts.resize(1);
  source.parts[0].row_stride *= 2;
  source.parts[0].rows /= 2;
  reported = 0;
  pack_gemm(source, pool);
  EXPECT_EQ(reported, 0u);
}

}  // namespace
}  // namespace sabrewing::kernels::cpu
