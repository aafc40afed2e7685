#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "kernels/reference/ops.h"
#include "tests/kernels/cuda_ops_fixture.h"

namespace sabrewing::kernels::cuda {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
const std::int64_t kRows[] = {0, 1, 2, 70};

std::span<const float> part(const std::vector<float>& values, std::int64_t begin, std::int64_t count) {
  return std::span(values).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
}

TEST_P(CudaOps, RmsNormMatchesReference) {
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t groups : {1, 5}) {
      for (const std::int64_t size : {1, 63, 64, 128, 2880}) {
        for (const DType in : {DType::kF32, act_}) {
          const std::int64_t cols = groups * size;
          const std::vector<float> x = in == DType::kF32
                                           ? random(static_cast<std::size_t>(rows * cols), 3)
                                           : activations(static_cast<std::size_t>(rows * cols), 3);
          const std::vector<float> weight = random(static_cast<std::size_t>(size));
          const Operand from = operand(in, rows, cols, x);
          const Operand to = operand(rows, cols);
          const DeviceBuffer scale = upload(weight);
          backend_->rms_norm(from.view, static_cast<const float*>(scale.data), size, 1e-6f, to.view);
          const std::vector<float> out = read(to);
          for (std::int64_t begin = 0; begin < rows * cols; begin += size)
            expect_near(part(out, begin, size), reference::rms_norm(part(x, begin, size), weight, 1e-6f),
                        rounding(), 1e-30);
          if (in != act_) continue;
          backend_->rms_norm(from.view, static_cast<const float*>(scale.data), size, 1e-6f, from.view);
          EXPECT_TRUE(same_bits(read(from), out)) << "in place";
        }
      }
    }
  }
}

TEST_P(CudaOps, AddIsExact) {
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t cols : {1, 33, 2880}) {
      const std::vector<float> a = random(static_cast<std::size_t>(rows * cols), 3);
      const std::vector<float> b = activations(a.size());
      const Operand residual = operand(DType::kF32, rows, cols, a);
      const Operand x = operand(rows, cols, b);
      backend_->add(residual.view, x.view);
      const std::vector<float> out = read(residual);
      for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], a[i] + b[i]);
    }
  }
}

TEST_P(CudaOps, GluMatchesReference) {
  for (const GluActivation activation : {GluActivation::kSilu, GluActivation::kClampedSwiGlu}) {
    for (const std::int64_t rows : kRows) {
      for (const std::int64_t width : {1, 31, 768}) {
        const std::vector<float> x = activations(static_cast<std::size_t>(2 * rows * width), 6);
        const Operand c = operand(rows, width);
        backend_->glu({operand(rows, 2 * width, x).view, c.view, activation, 7.0f});
        const std::vector<float> out = read(c);
        for (std::int64_t i = 0; i < rows; ++i)
          expect_near(part(out, i * width, width),
                      reference::glu(part(x, i * 2 * width, 2 * width), activation, 7.0), rounding(), 1e-9);
      }
    }
  }
}

TEST_P(CudaOps, GluOfExtremes) {
  const std::vector<float> x = {-1e30f, 1e30f, -200, 200, 1e30f, -1e30f, 3, -3};
  const Operand c = operand(1, 4);
  backend_->glu({operand(1, 8, x).view, c.view, GluActivation::kClampedSwiGlu, 7.0f});
  const std::vector<float> out = read(c);
  for (const float value : out) EXPECT_TRUE(std::isfinite(value));
  const Operand nan = operand(1, 1);
  for (const GluActivation activation : {GluActivation::kSilu, GluActivation::kClampedSwiGlu}) {
    backend_->glu({operand(1, 2, std::vector<float>{kNan, 1}).view, nan.view, activation, 7.0f});
    EXPECT_TRUE(std::isnan(read(nan)[0]));
  }
}

TEST_P(CudaOps, RopeMatchesReference) {
  for (const std::int64_t dim : {2, 64, 128}) {
    std::vector<float> frequency;
    for (std::int64_t i = 0; i < dim / 2; ++i)
      frequency.push_back(
          static_cast<float>(std::pow(150000.0, -2.0 * static_cast<double>(i) / static_cast<double>(dim))));
    const std::vector<std::int32_t> positions = {0, 1, 77, 4095, 131071};
    const auto tokens = static_cast<std::int64_t>(positions.size());
    const std::vector<float> q = activations(static_cast<std::size_t>(tokens * 3 * dim));
    const std::vector<float> k = activations(static_cast<std::size_t>(tokens * dim));
    const Operand q_rows = operand(tokens, 3 * dim, q);
    const Operand k_rows = operand(tokens, dim, k);
    const DeviceBuffer inverse = upload(frequency);
    const DeviceBuffer at = upload(positions);
    Batch batch;
    batch.tokens = tokens;
    batch.positions = static_cast<const std::int32_t*>(at.data);
    backend_->rope({q_rows.view, k_rows.view, dim, static_cast<const float*>(inverse.data), 1.25f}, batch);
    const std::vector<float> q_out = read(q_rows);
    const std::vector<float> k_out = read(k_rows);
    const auto check = [&](const std::vector<float>& out, const std::vector<float>& in, std::int64_t heads) {
      for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t h = 0; h < heads; ++h) {
          const std::int64_t begin = (t * heads + h) * dim;
          expect_near(
              part(out, begin, dim),
              reference::rope(part(in, begin, dim), positions[static_cast<std::size_t>(t)], frequency, 1.25),
              rounding(), 3e-6);
        }
    };
    check(q_out, q, 3);
    check(k_out, k, 1);
  }
}

TEST_P(CudaOps, RouteMatchesReference) {
  struct Shape {
    std::int64_t experts;
    int top_k;
  };
  for (const Shape shape : {Shape{1, 1}, {8, 2}, {32, 4}, {33, 32}, {128, 8}, {512, 10}}) {
    for (const auto& [score, renormalize] : {std::pair{RouterScore::kSoftmaxThenTopK, true},
                                             {RouterScore::kSoftmaxThenTopK, false},
                                             {RouterScore::kTopKThenSoftmax, true}}) {
      for (const std::int64_t rows : kRows) {
        std::vector<float> logits = random(static_cast<std::size_t>(rows * shape.experts), 4);
        for (std::size_t i = 0; i < logits.size(); ++i)  // many ties
          if (i % 3 != 0) logits[i] = std::round(logits[i]);
        const Operand x = operand(DType::kF32, rows, shape.experts, logits);
        const auto count = static_cast<std::size_t>(rows * shape.top_k);
        const DeviceBuffer ids = upload(std::vector<std::int32_t>(count, -7));
        const DeviceBuffer weights = upload(std::vector<float>(count));
        backend_->route({x.view, shape.top_k, score, renormalize, static_cast<std::int32_t*>(ids.data),
                         static_cast<float*>(weights.data)});
        const auto got_ids = download<std::int32_t>(ids.data, count);
        const auto got_weights = download<float>(weights.data, count);
        for (std::int64_t i = 0; i < rows; ++i) {
          const reference::Route expected = reference::route(part(logits, i * shape.experts, shape.experts),
                                                             shape.top_k, score, renormalize);
          for (std::size_t k = 0; k < expected.ids.size(); ++k)
            ASSERT_EQ(got_ids[static_cast<std::size_t>(i * shape.top_k) + k], expected.ids[k]);
          expect_near(part(got_weights, i * shape.top_k, shape.top_k), expected.weights, 3e-6, 1e-12);
        }
      }
    }
  }
}

TEST_P(CudaOps, RouteOfAnythingStaysInside) {
  const std::vector<float> logits = {kNan, -kInf, kNan,  2,    0.0f, -0.0f, kNan, 1,     //
                                     kNan, kNan,  kNan,  kNan, kNan, kNan,  kNan, kNan,  //
                                     kInf, -kInf, -kInf, kInf, 3,    3,     3,    3};
  const Operand x = operand(DType::kF32, 3, 8, logits);
  const DeviceBuffer ids = upload(std::vector<std::int32_t>(18, -7));
  const DeviceBuffer weights = upload(std::vector<float>(18));
  backend_->route({x.view, 6, RouterScore::kTopKThenSoftmax, true, static_cast<std::int32_t*>(ids.data),
                   static_cast<float*>(weights.data)});
  EXPECT_EQ(download<std::int32_t>(ids.data, 18),
            (std::vector<std::int32_t>{3, 7, 4, 5, 1, 0, 0, 1, 2, 3, 4, 5, 0, 3, 4, 5, 6, 7}));
}

TEST_P(CudaOps, GatherRows) {
  const std::vector<float> x = activations(7 * 100);
  const std::vector<std::int32_t> rows = {6, 0, 3, 3};
  const DeviceBuffer at = upload(rows);
  for (const DType dtype : {DType::kF32, act_}) {
    const Operand out = operand(dtype, 4, 100);
    backend_->gather_rows(operand(dtype, 7, 100, x).view, static_cast<const std::int32_t*>(at.data),
                          out.view);
    const std::vector<float> got = read(out);
    for (std::size_t i = 0; i < rows.size(); ++i)
      EXPECT_TRUE(same_bits(part(got, static_cast<std::int64_t>(i) * 100, 100), part(x, rows[i] * 100, 100)));
  }
}

TEST_P(CudaOps, RefusesWrongOperands) {
  const Operand floats = operand(DType::kF32, 2, 64);
  const Operand other = operand(is_exact() ? DType::kBF16 : DType::kF32, 2, 64);
  EXPECT_THROW(backend_->add(floats.view, other.view), Error);
  EXPECT_THROW(backend_->add(floats.view, operand(2, 32).view), Error);
  EXPECT_THROW(backend_->rms_norm(floats.view, nullptr, 24, 1e-6f, operand(2, 64).view), Error);
  EXPECT_THROW(backend_->route({floats.view, 33, RouterScore::kSoftmaxThenTopK, true, nullptr, nullptr}),
               Error);
  AttentionArgs attention;
  attention.cache.desc = {16, 1, 512, act_};
  attention.q_heads = 1;
  EXPECT_THROW(backend_->attention(attention, {}), Error);
}

TEST_P(CudaOps, FaultNamesTheLaunch) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto fault = [&] {
    try {
      const DeviceBuffer rows = upload(std::vector<std::int32_t>{9});
      const Operand out = operand(DType::kF32, 1, 64);
      backend_->gather_rows(operand(DType::kF32, 7, 64).view, static_cast<const std::int32_t*>(rows.data),
                            out.view);
      backend_->synchronize();
      std::fputs("no error\n", stderr);
    } catch (const Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      std::_Exit(error.code() == ErrorCode::kDevice ? 7 : 1);
    }
    std::_Exit(2);
  };
  EXPECT_EXIT(fault(), testing::ExitedWithCode(7), "gather_rows");
}

INSTANTIATE_TEST_SUITE_P(Gpu, CudaOps, testing::Values(Accuracy::kDefault, Accuracy::kExact), accuracy_name);

}  // namespace
}  // namespace sabrewing::kernels::cuda
