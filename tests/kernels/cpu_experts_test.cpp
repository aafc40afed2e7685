// The mixture of experts of the CPU backend against float64 arithmetic, in every tier.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/buffer.h"
#include "core/error.h"
#include "kernels/cpu/experts.h"
#include "kernels/cpu/pack.h"

namespace sabrewing::kernels::cpu {
namespace {

using formats::WeightFormat;

constexpr double kE2M1[16] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6};

/// All experts of a layer in one interleaved tensor (experts, 2I, K) and one (experts, K, I), as gpt-oss has
/// them, with the values they stand for.
struct Layer {
  ExpertsDesc desc;
  std::vector<std::uint8_t> values13, scales13, values2, scales2;
  std::vector<double> gate_up, down;
  std::vector<float> bias13, bias2;  // gate then up
  std::vector<ExpertSource> sources;
};

void fill(const WeightFormat& format, std::size_t count, std::mt19937& random,
          std::vector<std::uint8_t>& values, std::vector<std::uint8_t>& scales,
          std::vector<double>& decoded) {
  decoded.resize(count);
  if (format == WeightFormat::mxfp4()) {
    values.resize(count / 2);
    scales.resize(count / 32);
    for (auto& v : values) v = static_cast<std::uint8_t>(random());
    for (auto& s : scales) s = static_cast<std::uint8_t>(120 + random() % 4);
    for (std::size_t i = 0; i < count; ++i)
      decoded[i] = kE2M1[values[i / 2] >> (i % 2 * 4) & 15] * std::ldexp(1.0, scales[i / 32] - 127);
    return;
  }
  values.resize(count * 2);
  std::normal_distribution<float> normal(0, 0.05f);
  for (std::size_t i = 0; i < count; ++i) {
    const float v = normal(random);
    std::uint32_t word = 0;
    std::memcpy(&word, &v, 4);
    word &= 0xffff0000;
    float kept = 0;
    std::memcpy(&kept, &word, 4);
    decoded[i] = kept;
    std::memcpy(values.data() + 2 * i, reinterpret_cast<const char*>(&word) + 2, 2);
  }
}

Layer make_layer(const ExpertsDesc& desc, std::mt19937& random) {
  Layer layer;
  layer.desc = desc;
  const auto experts = static_cast<std::size_t>(desc.experts);
  const auto hidden = static_cast<std::size_t>(desc.hidden);
  const auto inter = static_cast<std::size_t>(desc.intermediate);
  fill(desc.weight, experts * 2 * inter * hidden, random, layer.values13, layer.scales13, layer.gate_up);
  fill(desc.weight, experts * inter * hidden, random, layer.values2, layer.scales2, layer.down);
  if (desc.bias) {
    std::normal_distribution<float> normal(0, 0.5f);
    layer.bias13.resize(experts * 2 * inter);
    layer.bias2.resize(experts * hidden);
    for (auto& b : layer.bias13) b = normal(random);
    for (auto& b : layer.bias2) b = normal(random);
  }
  const auto rows = [](const std::vector<std::uint8_t>& values, const std::vector<std::uint8_t>& scales,
                       std::size_t row, std::size_t total, std::size_t step, std::size_t count) {
    const std::size_t bytes = values.size() / total;
    const std::size_t scale_bytes = scales.size() / total;
    WeightRows part;
    part.values = reinterpret_cast<const std::byte*>(values.data() + row * bytes);
    part.row_stride = static_cast<std::int64_t>(bytes * step);
    part.scales =
        scales.empty() ? nullptr : reinterpret_cast<const std::byte*>(scales.data() + row * scale_bytes);
    part.scale_row_stride = static_cast<std::int64_t>(scale_bytes * step);
    part.rows = static_cast<std::int64_t>(count);
    return part;
  };
  for (std::size_t e = 0; e < experts; ++e) {
    ExpertSource source;
    source.gate = rows(layer.values13, layer.scales13, e * 2 * inter, experts * 2 * inter, 2, inter);
    source.up = rows(layer.values13, layer.scales13, e * 2 * inter + 1, experts * 2 * inter, 2, inter);
    source.down = rows(layer.values2, layer.scales2, e * hidden, experts * hidden, 1, hidden);
    layer.sources.push_back(source);
  }
  return layer;
}

double activate(const ExpertsDesc& desc, double gate, double up) {
  if (desc.activation == GluActivation::kSilu) return gate / (1 + std::exp(-gate)) * up;
  const double limit = double{desc.limit};
  const double g = std::min(gate, limit);
  const double u = std::min(std::max(up, -limit), limit);
  return g / (1 + std::exp(-1.702 * g)) * (u + 1);
}

std::vector<double> reference(const Layer& layer, const std::vector<float>& x,
                              const std::vector<std::int32_t>& ids, const std::vector<float>& weights) {
  const ExpertsDesc& desc = layer.desc;
  const auto hidden = static_cast<std::size_t>(desc.hidden);
  const auto inter = static_cast<std::size_t>(desc.intermediate);
  const auto top_k = static_cast<std::size_t>(desc.top_k);
  std::vector<double> y(x.size(), 0.0);
  for (std::size_t slot = 0; slot < ids.size(); ++slot) {
    if (ids[slot] < 0) continue;
    const auto e = static_cast<std::size_t>(ids[slot]);
    const float* row = x.data() + slot / top_k * hidden;
    std::vector<double> h(inter);
    for (std::size_t i = 0; i < inter; ++i) {
      double sums[2];
      for (std::size_t part = 0; part < 2; ++part) {
        double sum = desc.bias ? double{layer.bias13[e * 2 * inter + part * inter + i]} : 0.0;
        const double* w = layer.gate_up.data() + (e * 2 * inter + 2 * i + part) * hidden;
        for (std::size_t c = 0; c < hidden; ++c) sum += w[c] * double{row[c]};
        sums[part] = sum;
      }
      h[i] = activate(desc, sums[0], sums[1]);
    }
    for (std::size_t c = 0; c < hidden; ++c) {
      double sum = desc.bias ? double{layer.bias2[e * hidden + c]} : 0.0;
      const double* w = layer.down.data() + (e * hidden + c) * inter;
      for (std::size_t i = 0; i < inter; ++i) sum += w[i] * h[i];
      y[slot / top_k * hidden + c] += double{weights[slot]} * sum;
    }
  }
  return y;
}

std::vector<float> run_experts(const Experts& experts, const Layer& layer, const std::vector<float>& x,
                               const std::vector<std::int32_t>& ids, const std::vector<float>& weights) {
  const ExpertsDesc& desc = layer.desc;
  const ExpertsPlanPtr plan = experts.plan(desc);
  const PackedExperts packed = experts.pack(*plan, layer.sources, layer.bias13, layer.bias2);
  const auto m = static_cast<std::int64_t>(x.size()) / desc.hidden;
  HostBuffer workspace(plan->workspace_bytes(m));
  std::vector<float> y(x.size(), std::nanf(""));
  ExpertsArgs args;
  args.x = {const_cast<float*>(x.data()), DType::kF32, m, desc.hidden, desc.hidden};
  args.expert_ids = ids.data();
  args.expert_weights = weights.data();
  args.weights = &packed;
  args.y = {y.data(), DType::kF32, m, desc.hidden, desc.hidden};
  args.workspace = workspace.data();
  experts.run(*plan, args);
  return y;
}

struct Routing {
  std::vector<float> x;
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

Routing random_routing(const ExpertsDesc& desc, std::int64_t m, std::mt19937& random, int absent_percent) {
  Routing routing;
  std::normal_distribution<float> normal(0, 1);
  routing.x.resize(static_cast<std::size_t>(m * desc.hidden));
  for (auto& v : routing.x) v = normal(random);
  for (std::int64_t slot = 0; slot < m * desc.top_k; ++slot) {
    const bool absent = static_cast<int>(random() % 100) < absent_percent;
    routing.ids.push_back(absent ? -1
                                 : static_cast<std::int32_t>(random() % static_cast<unsigned>(desc.experts)));
    routing.weights.push_back(std::uniform_real_distribution<float>(0.05f, 0.6f)(random));
  }
  return routing;
}

double relative_error(const std::vector<double>& expected, const std::vector<float>& got) {
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(expected[i] - double{got[i]}, 2);
    size += std::pow(expected[i], 2);
  }
  return size == 0 ? std::sqrt(error) : std::sqrt(error / size);
}

class CpuExperts : public testing::TestWithParam<CpuTier> {
 protected:
  void SetUp() override {
    if (!supports(cpu_features(), GetParam()))
      GTEST_SKIP() << "this processor lacks " << to_string(GetParam());
  }
  Experts experts(ThreadPool& pool) const { return {GetParam(), cpu_features(), pool}; }
};

TEST_P(CpuExperts, MatchesFloat64) {
  ThreadPool one(1);
  ThreadPool three(3);
  std::mt19937 random(1);
  for (const WeightFormat& format : {WeightFormat::mxfp4(), WeightFormat::bf16()}) {
    for (const bool odd : {false, true}) {
      if (odd && format == WeightFormat::mxfp4()) continue;
      for (const GluActivation activation : {GluActivation::kSilu, GluActivation::kClampedSwiGlu}) {
        for (const Accuracy accuracy : {Accuracy::kExact, Accuracy::kDefault}) {
          ExpertsDesc desc;
          desc.weight = format;
          desc.experts = 5;
          desc.hidden = odd ? 67 : 96;
          desc.intermediate = odd ? 41 : 160;
          desc.top_k = 3;
          desc.activation = activation;
          desc.limit = 1.5f;
          desc.bias = activation == GluActivation::kClampedSwiGlu;
          desc.accuracy = accuracy;
          const Layer layer = make_layer(desc, random);
          for (const std::int64_t m : {1, 2, 7, 19, 70}) {
            const Routing r = random_routing(desc, m, random, m == 7 ? 60 : 10);
            const std::vector<double> expected = reference(layer, r.x, r.ids, r.weights);
            const std::vector<float> y = run_experts(experts(one), layer, r.x, r.ids, r.weights);
            const bool exact = accuracy == Accuracy::kExact;
            const double bound = exact ? 3e-6 : format == WeightFormat::bf16() ? 1e-3 : 0.02;
            EXPECT_LT(relative_error(expected, y), bound)
                << formats::to_string(format) << " M " << m << " odd " << odd << " exact " << exact;
            const std::vector<float> again = run_experts(experts(three), layer, r.x, r.ids, r.weights);
            EXPECT_EQ(std::memcmp(y.data(), again.data(), y.size() * sizeof(float)), 0);
          }
        }
      }
    }
  }
}

TEST_P(CpuExperts, TokensDoNotDependOnEachOther) {
  ThreadPool pool(2);
  std::mt19937 random(2);
  ExpertsDesc desc;
  desc.weight = WeightFormat::mxfp4();
  desc.experts = 4;
  desc.hidden = 128;
  desc.intermediate = 64;
  desc.top_k = 2;
  const Layer layer = make_layer(desc, random);
  // All rows on one expert makes more than one segment.
  Routing r = random_routing(desc, 300, random, 0);
  for (std::size_t i = 0; i < 250 * 2; ++i) r.ids[i] = 2;
  const std::vector<float> all = run_experts(experts(pool), layer, r.x, r.ids, r.weights);
  EXPECT_LT(relative_error(reference(layer, r.x, r.ids, r.weights), all), 0.02);
  for (const std::size_t token : {0u, 249u, 250u, 299u}) {
    const std::vector<float> x(r.x.begin() + static_cast<std::ptrdiff_t>(token * 128),
                               r.x.begin() + static_cast<std::ptrdiff_t>(token * 128 + 128));
    const std::vector<std::int32_t> ids = {r.ids[token * 2], r.ids[token * 2 + 1]};
    const std::vector<float> weights = {r.weights[token * 2], r.weights[token * 2 + 1]};
    const std::vector<float> alone = run_experts(experts(pool), layer, x, ids, weights);
    EXPECT_EQ(std::memcmp(alone.data(), all.data() + token * 128, 128 * sizeof(float)), 0) << token;
  }
}

TEST_P(CpuExperts, NobodyHere) {
  ThreadPool pool(1);
  std::mt19937 random(3);
  ExpertsDesc desc;
  desc.weight = WeightFormat::mxfp4();
  desc.experts = 2;
  desc.hidden = 32;
  desc.intermediate = 32;
  desc.top_k = 1;
  const Layer layer = make_layer(desc, random);
  Routing r = random_routing(desc, 4, random, 100);
  for (const float y : run_experts(experts(pool), layer, r.x, r.ids, r.weights)) EXPECT_EQ(y, 0);
  r.ids[1] = 2;
  EXPECT_THROW(run_experts(experts(pool), layer, r.x, r.ids, r.weights), Error);
  r.ids[1] = -2;
  EXPECT_THROW(run_experts(experts(pool), layer, r.x, r.ids, r.weights), Error);
  EXPECT_TRUE(run_experts(experts(pool), layer, {}, {}, {}).empty());
}

TEST(CpuExpertsPlan, Refusals) {
  ThreadPool pool(1);
  const Experts kernels(CpuTier::kScalar, cpu_features(), pool);
  ExpertsDesc desc;
  desc.weight = WeightFormat::mxfp4();
  desc.experts = 4;
  desc.hidden = 64;
  desc.intermediate = 48;
  desc.top_k = 2;
  EXPECT_NE(kernels.can_implement(desc).reason.find("48"), std::string::npos);
  EXPECT_THROW(kernels.plan(desc), Error);
  desc.intermediate = 64;
  desc.top_k = 5;
  EXPECT_FALSE(kernels.can_implement(desc));
  desc.top_k = 4;
  EXPECT_TRUE(kernels.can_implement(desc));
  desc.weight = WeightFormat::nvfp4();
  EXPECT_NE(kernels.can_implement(desc).reason.find("nvfp4"), std::string::npos);
}

TEST(CpuExpertsPack, InterleavedRowsRoundTrip) {
  ThreadPool pool(2);
  std::mt19937 random(4);
  ExpertsDesc desc;
  desc.weight = WeightFormat::mxfp4();
  desc.experts = 3;
  desc.hidden = 64;
  desc.intermediate = 32;
  desc.top_k = 1;
  const Layer layer = make_layer(desc, random);
  const PackedExperts packed = pack_experts(desc.weight, 64, 32, layer.sources, {}, {}, pool);
  std::vector<float> row(64);
  for (std::int64_t e = 0; e < 3; ++e) {
    for (std::int64_t i = 0; i < 64; ++i) {
      // Packed: 16 gate rows, the same 16 up rows, ...; stored: gate and up alternate.
      const std::int64_t stored = 2 * (i / 32 * 16 + i % 16) + i / 16 % 2;
      dequantize_row(packed.w13, e, i, row.data());
      for (std::int64_t c = 0; c < 64; ++c)
        ASSERT_EQ(row[static_cast<std::size_t>(c)],
                  layer.gate_up[static_cast<std::size_t>((e * 64 + stored) * 64 + c)]);
    }
  }
  std::vector<ExpertSource> wrong = layer.sources;
  wrong[1].up.rows = 31;
  EXPECT_THROW(pack_experts(desc.weight, 64, 32, wrong, {}, {}, pool), Error);
}

INSTANTIATE_TEST_SUITE_P(Tiers, CpuExperts,
                         testing::Values(CpuTier::kScalar, CpuTier::kAvx2, CpuTier::kAvx512),
                         [](const auto& tier) { return std::string(to_string(tier.param)); });

}  // namespace
}  // namespace sabrewing::kernels::cpu
