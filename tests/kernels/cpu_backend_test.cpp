#include "kernels/cpu/cpu_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/thread_pool.h"
#include "formats/numeric/float16.h"
#include "kernels/cpu/tier.h"
#include "kernels/reference/ops.h"

namespace sabrewing::kernels::cpu {
namespace {

Matrix matrix(std::vector<float>& values, std::int64_t rows) {
  const auto cols = static_cast<std::int64_t>(values.size()) / rows;
  return {values.data(), DType::kF32, rows, cols, cols};
}

std::vector<float> numbers(std::size_t count, float step) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = std::sin(static_cast<float>(i) * step + 0.3f);
  return values;
}

TEST(CpuBackend, SaysWhatItIs) {
  const auto backend = make_cpu_backend({3, "scalar"});
  EXPECT_EQ(backend->name(), "cpu");
  EXPECT_THAT(backend->description(), testing::HasSubstr("scalar, 3 threads"));
  EXPECT_EQ(backend->activation_dtype(), DType::kF32);
  EXPECT_EQ(backend->cache_dtype(Accuracy::kExact), DType::kF32);
  EXPECT_EQ(backend->cache_dtype(Accuracy::kDefault), DType::kBF16);
  const std::string best(to_string(best_tier(cpu_features())));
  EXPECT_THAT(make_cpu_backend({})->description(),
              testing::HasSubstr(best + ", " + std::to_string(available_processors())));
}

TEST(CpuBackend, RefusesWhatThisMachineCannotDo) {
  EXPECT_THROW(make_cpu_backend({1, "sse9"}), Error);
  EXPECT_THROW(make_cpu_backend({-1, ""}), Error);
  EXPECT_THROW(make_cpu_backend({100000, ""}), Error);
}

TEST(CpuBackend, MemoryIsAlignedAndCopied) {
  const auto backend = make_cpu_backend({1, ""});
  const DeviceBuffer buffer = backend->allocate(100);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data) % 64, 0u);
  EXPECT_EQ(buffer.bytes, 100u);
  const std::vector<char> in = {'a', 'b', 'c'};
  backend->copy_in(buffer.data, in.data(), in.size());
  std::vector<char> out(3);
  backend->copy_out(out.data(), buffer.data, out.size());
  backend->copy_in(nullptr, nullptr, 0);
  backend->synchronize();
  EXPECT_EQ(out, in);
}

/// One step through the interface: look up, normalize, project, rotate, attend, gather.
TEST(CpuBackend, OperationsReachTheirKernels) {
  const auto backend = make_cpu_backend({2, ""});
  constexpr std::int64_t kTokens = 3, kHidden = 32, kVocabulary = 5;
  std::vector<std::uint16_t> table(kVocabulary * kHidden);
  const std::vector<float> table_values = numbers(table.size(), 0.7f);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = formats::float_to_bf16(table_values[i]);
  const auto value = [&](std::int64_t row, std::int64_t column) {
    return formats::bf16_to_float(table[static_cast<std::size_t>(row * kHidden + column)]);
  };
  GemmDesc desc;
  desc.weight = formats::WeightFormat::bf16();
  desc.accuracy = Accuracy::kExact;
  desc.activation = backend->preferred_activation(desc.weight, desc.accuracy);
  desc.output = DType::kF32;
  desc.n = kVocabulary;
  desc.k = kHidden;
  ASSERT_TRUE(backend->can_implement(desc)) << backend->can_implement(desc).reason;
  const GemmPlanPtr plan = backend->plan(desc);
  WeightSource source;
  source.format = desc.weight;
  source.k = kHidden;
  source.parts = {{reinterpret_cast<const std::byte*>(table.data()), kHidden * 2, nullptr, 0, kVocabulary}};
  const PackedWeight packed = backend->pack(*plan, source);

  const std::vector<std::int32_t> ids = {4, 0, 2};
  std::vector<float> residual(kTokens * kHidden);
  backend->embed(*plan, packed, ids.data(), matrix(residual, kTokens));
  for (std::int64_t i = 0; i < kTokens; ++i)
    for (std::int64_t j = 0; j < kHidden; ++j)
      ASSERT_EQ(residual[static_cast<std::size_t>(i * kHidden + j)],
                value(ids[static_cast<std::size_t>(i)], j));

  std::vector<float> weight = numbers(kHidden, 0.2f);
  std::vector<float> normed(residual.size());
  backend->rms_norm(matrix(residual, kTokens), weight.data(), kHidden, 1e-5f, matrix(normed, kTokens));
  std::vector<float> logits(kTokens * kVocabulary);
  GemmArgs gemm;
  gemm.a = matrix(normed, kTokens);
  gemm.b = &packed;
  gemm.c = matrix(logits, kTokens);
  const DeviceBuffer gemm_workspace = backend->allocate(plan->workspace_bytes(kTokens) + 64);
  gemm.workspace = gemm_workspace.data;
  backend->gemm(*plan, gemm);
  for (std::size_t i = 0; i < kTokens; ++i) {
    const std::vector<double> expected =
        reference::rms_norm(std::span(residual).subspan(i * kHidden, kHidden), weight, 1e-5f);
    for (std::int64_t n = 0; n < kVocabulary; ++n) {
      double dot = 0;
      for (std::int64_t j = 0; j < kHidden; ++j)
        dot += expected[static_cast<std::size_t>(j)] * static_cast<double>(value(n, j));
      ASSERT_NEAR(logits[i * kVocabulary + static_cast<std::size_t>(n)], dot, 1e-4);
    }
  }

  std::vector<float> q = residual, k = normed, v = normed, o(residual.size());
  const std::vector<float> frequency = {1, 0.5f, 0.1f, 0.01f};
  const std::vector<std::int32_t> positions = {0, 1, 2}, start = {0, kTokens}, blocks = {1, 0};
  Batch batch;
  batch.tokens = kTokens;
  batch.sequences = 1;
  batch.positions = positions.data();
  batch.query_start = start.data();
  batch.block_table = blocks.data();
  batch.max_blocks = 2;
  batch.max_context = kTokens;
  backend->rope({matrix(q, kTokens), matrix(k, kTokens), 8, frequency.data(), 1.0f}, batch);
  std::vector<float> keys(2 * 2 * kHidden), values(2 * 2 * kHidden);
  AttentionArgs attention;
  attention.q = matrix(q, kTokens);
  attention.k = matrix(k, kTokens);
  attention.v = matrix(v, kTokens);
  attention.o = matrix(o, kTokens);
  attention.cache = {{2, 4, 8, DType::kF32}, keys.data(), values.data()};
  attention.q_heads = 4;
  attention.scale = 0.5f;
  const DeviceBuffer workspace = backend->allocate(backend->attention_workspace_bytes(attention, batch));
  attention.workspace = workspace.data;
  backend->attention(attention, batch);
  for (std::size_t i = 0; i < kTokens; ++i) {
    const auto expected =
        reference::attention({4, 4, 8, 0.5, 0, {}}, std::span(q).subspan(i * kHidden, kHidden),
                             static_cast<std::int64_t>(i), k, v);
    for (std::size_t j = 0; j < kHidden; ++j) ASSERT_NEAR(o[i * kHidden + j], expected[j], 1e-5);
  }

  std::vector<float> sum = residual;
  backend->add(matrix(sum, kTokens), matrix(o, kTokens));
  std::vector<float> gated(kTokens * kHidden / 2);
  backend->glu({matrix(sum, kTokens), matrix(gated, kTokens), GluActivation::kSilu, 0});
  const std::vector<double> expected_gated =
      reference::glu(std::span<const float>(sum).first(kHidden), GluActivation::kSilu, 0);
  for (std::size_t j = 0; j < kHidden / 2; ++j) ASSERT_NEAR(gated[j], expected_gated[j], 1e-6);
  std::vector<float> last(kHidden);
  const std::int32_t row = 2;
  backend->gather_rows(matrix(sum, kTokens), &row, matrix(last, 1));
  for (std::size_t j = 0; j < kHidden; ++j)
    ASSERT_EQ(last[j], residual[2 * kHidden + j] + o[2 * kHidden + j]);

  std::vector<std::int32_t> expert_ids(kTokens * 2);
  std::vector<float> expert_weights(kTokens * 2);
  backend->route({matrix(logits, kTokens), 2, RouterScore::kTopKThenSoftmax, true, expert_ids.data(),
                  expert_weights.data()});
  const reference::Route route = reference::route(std::span<const float>(logits).first(kVocabulary), 2,
                                                  RouterScore::kTopKThenSoftmax, true);
  EXPECT_EQ(expert_ids[0], route.ids[0]);
  EXPECT_NEAR(expert_weights[1], route.weights[1], 1e-6);
}

}  // namespace
}  // namespace sabrewing::kernels::cpu
