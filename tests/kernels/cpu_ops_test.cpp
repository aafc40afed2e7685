#include <cmath>
#include <limits>

#include "core/error.h"
#include "formats/numeric/float16.h"
#include "kernels/reference/ops.h"
#include "tests/kernels/cpu_ops_fixture.h"

namespace sabrewing::kernels::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const std::int64_t kRows[] = {0, 1, 2, 70};

TEST_P(OpsTest, RmsNormMatchesReference) {
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t groups : {1, 5}) {
      for (const std::int64_t size : {1, 3, 16, 63, 64, 67, 128, 2880}) {
        for (const float scale : {1e-4f, 1.0f, 300.0f}) {
          GuardedMatrix x(rows, groups * size, random(static_cast<std::size_t>(rows * groups * size), scale));
          GuardedMatrix out(rows, groups * size);
          const std::vector<float> weight = random(static_cast<std::size_t>(size));
          ops_.rms_norm(x.view(), weight.data(), size, 1e-6f, out.view());
          for (std::int64_t i = 0; i < rows; ++i) {
            for (std::int64_t g = 0; g < groups; ++g) {
              const auto begin = static_cast<std::size_t>(g * size);
              const auto count = static_cast<std::size_t>(size);
              const std::vector<double> expected =
                  reference::rms_norm(x.row(i).subspan(begin, count), weight, 1e-6f);
              expect_row_near(out.row(i).subspan(begin, count), expected, 2e-6, 1e-30);
            }
          }
          out.expect_guards();
          GuardedMatrix once = out;
          ops_.rms_norm(x.view(), weight.data(), size, 1e-6f, x.view());
          for (std::int64_t i = 0; i < rows; ++i) ASSERT_TRUE(same_bits(x.row(i), once.row(i))) << "in place";
        }
      }
    }
  }
}

TEST_P(OpsTest, RmsNormOfZerosIsZeroAndKeepsNan) {
  GuardedMatrix x(2, 20, std::vector<float>(40, 0.0f));
  x.at(1, 3) = kNan;
  const std::vector<float> weight(20, 2.0f);
  ops_.rms_norm(x.view(), weight.data(), 20, 1e-5f, x.view());
  for (std::int64_t j = 0; j < 20; ++j) {
    EXPECT_EQ(x.at(0, j), 0.0f);
    EXPECT_TRUE(std::isnan(x.at(1, j)));
  }
}

TEST_P(OpsTest, AddIsExact) {
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t cols : {1, 15, 16, 33, 2880}) {
      const std::vector<float> a = random(static_cast<std::size_t>(rows * cols), 3);
      GuardedMatrix residual(rows, cols, a);
      GuardedMatrix x(rows, cols, random(a.size()));
      ops_.add(residual.view(), x.view());
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < cols; ++j)
          ASSERT_EQ(residual.at(i, j), a[static_cast<std::size_t>(i * cols + j)] + x.at(i, j));
      residual.expect_guards();
    }
  }
}

TEST_P(OpsTest, GluMatchesReference) {
  for (const GluActivation activation : {GluActivation::kSilu, GluActivation::kClampedSwiGlu}) {
    for (const std::int64_t rows : kRows) {
      for (const std::int64_t width : {1, 7, 16, 31, 768}) {
        GuardedMatrix gate_up(rows, 2 * width, random(static_cast<std::size_t>(2 * rows * width), 6));
        GuardedMatrix c(rows, width);
        ops_.glu({gate_up.view(), c.view(), activation, 7.0f});
        for (std::int64_t i = 0; i < rows; ++i)
          expect_row_near(c.row(i), reference::glu(gate_up.row(i), activation, 7.0), 1e-6, 1e-9);
        c.expect_guards();
      }
    }
  }
}

TEST_P(OpsTest, SiluOverItsWholeRange) {
  std::vector<float> row;
  for (float gate = -120; gate <= 120; gate += 0.0371f) row.push_back(gate);
  const auto width = static_cast<std::int64_t>(row.size());
  row.resize(2 * row.size(), 1.5f);
  GuardedMatrix gate_up(1, 2 * width, row);
  GuardedMatrix c(1, width);
  ops_.glu({gate_up.view(), c.view(), GluActivation::kSilu, 0});
  expect_row_near(c.row(0), reference::glu(gate_up.row(0), GluActivation::kSilu, 0), 6e-7, 1e-35);
}

TEST_P(OpsTest, GluOfExtremesStaysFinite) {
  GuardedMatrix gate_up(1, 8, {-1e30f, 1e30f, -200, 200, 1e30f, -1e30f, 3, -3});
  GuardedMatrix c(1, 4);
  ops_.glu({gate_up.view(), c.view(), GluActivation::kClampedSwiGlu, 7.0f});
  expect_row_near(c.row(0), reference::glu(gate_up.row(0), GluActivation::kClampedSwiGlu, 7.0), 1e-6, 1e-30);
  GuardedMatrix nan(1, 2, {kNan, 1});
  GuardedMatrix one(1, 1);
  for (const GluActivation activation : {GluActivation::kSilu, GluActivation::kClampedSwiGlu}) {
    ops_.glu({nan.view(), one.view(), activation, 7.0f});
    EXPECT_TRUE(std::isnan(one.at(0, 0)));
  }
}

TEST_P(OpsTest, RopeMatchesReference) {
  for (const std::int64_t tokens : kRows) {
    for (const std::int64_t head_dim : {2, 6, 32, 64, 80, 128}) {
      for (const auto& [q_heads, kv_heads] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {8, 2}}) {
        std::vector<float> inverse_frequency;
        for (std::int64_t i = 0; i < head_dim / 2; ++i)
          inverse_frequency.push_back(static_cast<float>(
              std::pow(150000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim))));
        std::vector<std::int32_t> positions;
        for (std::int64_t i = 0; i < tokens; ++i) positions.push_back(static_cast<std::int32_t>(i * 1733));
        Batch batch;
        batch.tokens = tokens;
        batch.positions = positions.data();
        const std::vector<float> q_values = random(static_cast<std::size_t>(tokens * q_heads * head_dim));
        const std::vector<float> k_values = random(static_cast<std::size_t>(tokens * kv_heads * head_dim));
        GuardedMatrix q(tokens, q_heads * head_dim, q_values);
        GuardedMatrix k(tokens, kv_heads * head_dim, k_values);
        ops_.rope({q.view(), k.view(), head_dim, inverse_frequency.data(), 1.3465f}, batch);
        const auto expect = [&](GuardedMatrix& matrix, const std::vector<float>& before, std::int64_t heads) {
          for (std::int64_t i = 0; i < tokens; ++i) {
            for (std::int64_t h = 0; h < heads; ++h) {
              const auto at = static_cast<std::size_t>((i * heads + h) * head_dim);
              const auto size = static_cast<std::size_t>(head_dim);
              expect_row_near(
                  matrix.row(i).subspan(static_cast<std::size_t>(h * head_dim), size),
                  reference::rope(std::span(before).subspan(at, size), positions[static_cast<std::size_t>(i)],
                                  inverse_frequency, 1.3465f),
                  3e-7, 2e-6);
            }
          }
          matrix.expect_guards();
        };
        expect(q, q_values, q_heads);
        expect(k, k_values, kv_heads);
      }
    }
  }
}

TEST_P(OpsTest, RouteMatchesReference) {
  struct Case {
    RouterScore score;
    bool renormalize;
  };
  for (const Case c : {Case{RouterScore::kSoftmaxThenTopK, true}, Case{RouterScore::kSoftmaxThenTopK, false},
                       Case{RouterScore::kTopKThenSoftmax, true}}) {
    for (const std::int64_t rows : kRows) {
      for (const auto& [experts, top_k] :
           {std::pair<std::int64_t, int>{1, 1}, {5, 5}, {32, 4}, {33, 3}, {128, 8}, {384, 7}}) {
        std::vector<float> values = random(static_cast<std::size_t>(rows * experts), 4);
        for (std::size_t i = 0; i < values.size(); i += 3) values[i] = std::round(values[i]);  // ties
        GuardedMatrix logits(rows, experts, values);
        std::vector<std::int32_t> ids(static_cast<std::size_t>(rows * top_k) + 1, -77);
        std::vector<float> weights(ids.size(), -77);
        RouterArgs args{logits.view(), top_k, c.score, c.renormalize, ids.data(), weights.data()};
        ops_.route(args);
        for (std::int64_t i = 0; i < rows; ++i) {
          const reference::Route expected = reference::route(logits.row(i), top_k, c.score, c.renormalize);
          const auto at = static_cast<std::size_t>(i * top_k);
          const auto count = static_cast<std::size_t>(top_k);
          for (std::size_t j = 0; j < count; ++j) ASSERT_EQ(ids[at + j], expected.ids[j]) << "row " << i;
          expect_row_near(std::span<const float>(weights).subspan(at, count), expected.weights, 1e-6, 1e-12);
        }
        ASSERT_EQ(ids.back(), -77);
        ASSERT_EQ(weights.back(), -77.0f);
      }
    }
  }
}

TEST_P(OpsTest, RouteTiesGoToTheLowestIndexAndIdsStayValid) {
  GuardedMatrix logits(5, 6, std::vector<float>(30, 1.0f));
  for (std::int64_t e = 0; e < 6; ++e) {
    logits.at(1, e) = -kInf;
    logits.at(2, e) = kNan;
    logits.at(3, e) = e % 2 == 0 ? kNan : static_cast<float>(e);
  }
  logits.at(4, 5) = kInf;
  std::vector<std::int32_t> ids(20);
  std::vector<float> weights(20);
  ops_.route({logits.view(), 4, RouterScore::kTopKThenSoftmax, true, ids.data(), weights.data()});
  const std::vector<std::int32_t> expected = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 5, 3, 1, 0, 5, 0, 1, 2};
  EXPECT_EQ(ids, expected);
  for (int j = 0; j < 4; ++j) EXPECT_EQ(weights[static_cast<std::size_t>(j)], 0.25f);
  for (int j = 4; j < 16; ++j) EXPECT_TRUE(std::isnan(weights[static_cast<std::size_t>(j)])) << j;
}

TEST_P(OpsTest, GatherRows) {
  const std::vector<float> values = random(7 * 9);
  GuardedMatrix x(7, 9, values);
  GuardedMatrix out(4, 9);
  const std::vector<std::int32_t> rows = {6, 0, 0, 3};
  ops_.gather_rows(x.view(), rows.data(), out.view());
  for (std::int64_t i = 0; i < 4; ++i)
    EXPECT_TRUE(same_bits(out.row(i), x.row(rows[static_cast<std::size_t>(i)])));
  out.expect_guards();
  GuardedMatrix none(0, 9);
  ops_.gather_rows(x.view(), nullptr, none.view());
  const std::vector<std::int32_t> outside = {0, 7, 0, 0};
  EXPECT_THROW(ops_.gather_rows(x.view(), outside.data(), out.view()), Error);
}

TEST_P(OpsTest, RowsDoNotDependOnTheBatch) {
  constexpr std::int64_t kCols = 67;
  const std::vector<float> values = random(2 * 90 * kCols, 2);
  const std::vector<float> weight = random(kCols);
  GuardedMatrix all(90, 2 * kCols, values);
  GuardedMatrix normed(90, 2 * kCols);
  GuardedMatrix gated(90, kCols);
  ops_.rms_norm(all.view(), weight.data(), kCols, 1e-6f, normed.view());
  ops_.glu({all.view(), gated.view(), GluActivation::kSilu, 0});
  for (const std::int64_t row : {0, 41, 89}) {
    // At another alignment and alone.
    std::vector<float> alone(all.row(row).size() + 1);
    std::copy(all.row(row).begin(), all.row(row).end(), alone.begin() + 1);
    const Matrix x{alone.data() + 1, DType::kF32, 1, 2 * kCols, 2 * kCols};
    GuardedMatrix out(1, 2 * kCols);
    ops_.rms_norm(x, weight.data(), kCols, 1e-6f, out.view());
    EXPECT_TRUE(same_bits(out.row(0), normed.row(row)));
    GuardedMatrix c(1, kCols);
    ops_.glu({x, c.view(), GluActivation::kSilu, 0});
    EXPECT_TRUE(same_bits(c.row(0), gated.row(row)));
  }
}

TEST_P(OpsTest, WrongOperandsAreRefused) {
  GuardedMatrix a(2, 8);
  GuardedMatrix b(2, 6);
  const std::vector<float> weight(8);
  Matrix half = a.view();
  half.dtype = DType::kBF16;
  EXPECT_THROW(ops_.add(a.view(), b.view()), Error);
  EXPECT_THROW(ops_.add(half, a.view()), Error);
  EXPECT_THROW(ops_.rms_norm(a.view(), weight.data(), 3, 1e-6f, a.view()), Error);
  EXPECT_THROW(ops_.glu({a.view(), b.view(), GluActivation::kSilu, 0}), Error);
  std::int32_t id = 0;
  float expert_weight = 0;
  EXPECT_THROW(ops_.route({a.view(), 9, RouterScore::kTopKThenSoftmax, true, &id, &expert_weight}), Error);
}

const OpsKernels& kernels_of(CpuTier tier) {
#if defined(__x86_64__)
  if (tier == CpuTier::kAvx512) return kOpsAvx512;
  if (tier == CpuTier::kAvx2) return kOpsAvx2;
#endif
  EXPECT_EQ(tier, CpuTier::kScalar);
  return kOpsScalar;
}

TEST_P(OpsTest, ExponentialWithinTwoUnits) {
  const OpsKernels& kernels = kernels_of(GetParam().tier);
  std::vector<float> x;
  for (double value = -87.33; value < 88.72; value += 0.000231) x.push_back(static_cast<float>(value));
  std::vector<float> out(x.size());
  kernels.exponentials(x.data(), static_cast<std::int64_t>(x.size()), 0, out.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(static_cast<double>(x[i]));
    const double unit = std::ldexp(1.0, std::ilogb(expected) - 23);
    ASSERT_NEAR(out[i], expected, 2 * unit) << x[i];
  }
  const std::vector<float> special = {0, -0.0f, -kInf, kInf, kNan, -88, 89, -1e30f, 1e30f};
  out.resize(special.size());
  kernels.exponentials(special.data(), static_cast<std::int64_t>(special.size()), 0, out.data());
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], 1.0f);
  EXPECT_EQ(out[2], 0.0f);
  EXPECT_EQ(out[3], kInf);
  EXPECT_TRUE(std::isnan(out[4]));
  EXPECT_EQ(out[5], 0.0f);
  EXPECT_EQ(out[6], kInf);
  EXPECT_EQ(out[7], 0.0f);
  EXPECT_EQ(out[8], kInf);
}

TEST_P(OpsTest, ToBf16MatchesTheScalarFormat) {
  const OpsKernels& kernels = kernels_of(GetParam().tier);
  std::vector<float> x = {0, -0.0f, kInf, -kInf, kNan, -kNan, 3.39e38f, 1.00390625f, 1.01171875f, 1e-40f};
  x.push_back(std::bit_cast<float>(0x7f800001u));  // a NaN whose payload would be cut off
  for (int i = 0; i < 50000; ++i) x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(generator_())));
  std::vector<std::uint16_t> out(x.size() + 1, 0xdead);
  kernels.to_bf16(x.data(), static_cast<std::int64_t>(x.size()), out.data());
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(out[i], formats::float_to_bf16(x[i])) << x[i];
  EXPECT_EQ(out.back(), 0xdead);
}

INSTANTIATE_TEST_SUITE_P(Tiers, OpsTest, testing::ValuesIn(ops_cases()), ops_case_name);

}  // namespace
}  // namespace sabrewing::kernels::cpu
