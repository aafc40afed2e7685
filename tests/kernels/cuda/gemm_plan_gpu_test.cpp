#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "formats/numeric/bit_stream.h"
#include "formats/numeric/element_type.h"
#include "formats/numeric/float16.h"
#include "kernels/cuda/bench/random_weight.h"
#include "kernels/cuda/gemm/gemm_plan.h"

namespace sabrewing::kernels::cuda {
namespace {

using ::testing::HasSubstr;

class GemmPlanOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const Feasibility feasible = jit::driver_available(); !feasible) GTEST_SKIP() << feasible.reason;
    device_ = jit::Device::open();
    compiler_ = std::make_shared<jit::Compiler>();
    if (const Feasibility feasible = compiler_->available(); !feasible) GTEST_SKIP() << feasible.reason;
    planner_ = std::make_unique<GemmPlanner>(device_, compiler_);
  }

  jit::DeviceBuffer upload(std::span<const std::byte> bytes) {
    jit::DeviceBuffer buffer(device_, bytes.size());
    jit::copy_to_device(buffer.data(), bytes, nullptr);
    jit::synchronize(nullptr);
    return buffer;
  }

  jit::DevicePtr device_;
  std::shared_ptr<jit::Compiler> compiler_;
  std::unique_ptr<GemmPlanner> planner_;
};

Matrix matrix(const jit::DeviceBuffer& buffer, DType dtype, std::int64_t rows, std::int64_t cols) {
  return {buffer.data(), dtype, rows, cols, cols};
}

TEST_F(GemmPlanOnGpu, LargeWeightsArePackedOnTheDeviceIntoTheBytesOfTheHost) {
  for (const char* format : {"mxfp4", "int4g128", "fp8row"}) {
    RandomWeight weight(format_by_name(format), 1000, 2048, 5);
    GemmDesc desc;
    desc.weight = weight.format;
    desc.activation = formats::ActivationFormat::bf16();
    desc.n = weight.n;
    desc.k = weight.k;
    const auto plan = planner_->plan(desc);
    const std::uint64_t compiled = compiler_->counters().compiled;
    const PackedHostWeight expected = pack_weight(weight.source(), plan->layout());
    for (const bool again : {false, true}) {
      const PackedWeight packed = planner_->pack(*plan, weight.source());
      std::vector<std::byte> got(expected.bytes.size());
      jit::copy_to_host(got, packed.bytes.data, nullptr);
      jit::synchronize(nullptr);
      EXPECT_EQ(got == expected.bytes, true) << format << again;
      EXPECT_EQ(compiler_->counters().compiled, compiled + 1) << format;
    }
  }
  // What the device refuses is explained as on the host.
  RandomWeight nan(format_by_name("fp8row"), 1000, 2048, 5);
  nan.values[5 * 2048 + 9] = std::byte{0x7f};
  GemmDesc desc;
  desc.weight = nan.format;
  desc.activation = formats::ActivationFormat::bf16();
  desc.n = nan.n;
  desc.k = nan.k;
  const auto plan = planner_->plan(desc);
  try {
    planner_->pack(*plan, nan.source());
    ADD_FAILURE() << "a NaN was packed";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("row 5 holds a weight that is NaN"));
  }
}

TEST_F(GemmPlanOnGpu, MatchesFloat64AcrossIntervalsWithBias) {
  for (const auto& [format, k] : {std::pair{"mxfp4", 2880}, {"int4g128", 384}, {"fp8row", 640}}) {
    const std::int64_t n = 200;
    const RandomWeight weight(format_by_name(format), n, k, 5);
    GemmDesc desc;
    desc.weight = weight.format;
    desc.activation = formats::ActivationFormat::bf16();
    desc.n = n;
    desc.k = k;
    desc.bias = true;
    const auto plan = planner_->plan(desc);
    const PackedWeight packed = planner_->pack(*plan, weight.source());
    const std::uint64_t compiled = compiler_->counters().compiled;
    const std::int64_t max_m = 300;
    const std::vector<std::uint16_t> x = random_bf16(static_cast<std::size_t>(max_m * k), 9);
    std::vector<float> bias(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = 0.01f * static_cast<float>(i);
    const jit::DeviceBuffer x_device = upload(std::as_bytes(std::span(x)));
    const jit::DeviceBuffer bias_device = upload(std::as_bytes(std::span(bias)));
    const jit::DeviceBuffer y_device(device_, static_cast<std::size_t>(max_m * n) * 2);

    std::vector<double> dequantized(static_cast<std::size_t>(n * k));
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(k));
    for (std::int64_t r = 0; r < n; ++r) {
      formats::unpack_codes(
          {weight.values.data() + r * weight.row_bytes, static_cast<std::size_t>(weight.row_bytes)},
          weight.format.element.bits, 0, codes);
      for (std::int64_t c = 0; c < k; ++c)
        dequantized[static_cast<std::size_t>(r * k + c)] =
            static_cast<double>(formats::decode(weight.format.element, codes[static_cast<std::size_t>(c)])) *
            weight.scale(r, c / (k / weight.groups));
    }
    for (const std::int64_t m : {0, 1, 5, 17, 64, 130, 300}) {
      jit::set_bytes(y_device.data(), 0xff, y_device.size(), nullptr);
      GemmArgs args;
      args.a = matrix(x_device, DType::kBF16, m, k);
      args.b = &packed;
      args.bias = bias_device.as<float>();
      args.c = matrix(y_device, DType::kBF16, m, n);
      plan->enqueue(args, nullptr, false);
      std::vector<std::uint16_t> y(static_cast<std::size_t>(max_m * n));
      jit::copy_to_host(std::as_writable_bytes(std::span(y)), y_device.data(), nullptr);
      jit::synchronize(nullptr);
      double error = 0, norm = 0;
      for (std::int64_t t = 0; t < m; ++t)
        for (std::int64_t r = 0; r < n; ++r) {
          double expected = bias[static_cast<std::size_t>(r)];
          for (std::int64_t c = 0; c < k; ++c)
            expected += static_cast<double>(formats::bf16_to_float(x[static_cast<std::size_t>(t * k + c)])) *
                        dequantized[static_cast<std::size_t>(r * k + c)];
          const double got = formats::bf16_to_float(y[static_cast<std::size_t>(t * n + r)]);
          error += (got - expected) * (got - expected);
          norm += expected * expected;
        }
      if (m > 0) {
        EXPECT_LE(std::sqrt(error / norm), plan->layout().pre_scaled ? 2.3e-3 : 2.0e-3)
            << format << " M " << m;
      }
      for (std::size_t i = static_cast<std::size_t>(m * n); i < y.size(); ++i)
        ASSERT_EQ(y[i], 0xffff) << "M " << m;
    }
    EXPECT_EQ(compiler_->counters().compiled, compiled) << "a call compiled something";
    EXPECT_THAT(plan->explain(), HasSubstr("predicted"));
  }
}

TEST_F(GemmPlanOnGpu, GraphReplayAndTwoStreamsGiveTheSameBits) {
  for (const char* format : {"mxfp4", "int4g128"}) {
    const std::int64_t n = 448, k = 2048, max_m = 300;
    const RandomWeight weight(format_by_name(format), n, k, 5);
    GemmDesc desc;
    desc.weight = weight.format;
    desc.activation = formats::ActivationFormat::bf16();
    desc.n = n;
    desc.k = k;
    const auto plan = planner_->plan(desc);
    const PackedWeight packed = planner_->pack(*plan, weight.source());
    const std::vector<std::uint16_t> tokens = random_bf16(static_cast<std::size_t>(max_m * k), 9);
    const jit::DeviceBuffer x = upload(std::as_bytes(std::span(tokens)));
    const jit::Stream streams[2] = {jit::Stream(device_), jit::Stream(device_)};
    for (const std::int64_t m : {1, 17, 64, 300}) {
      std::vector<jit::DeviceBuffer> outputs;
      for (int i = 0; i < 3; ++i) outputs.emplace_back(device_, static_cast<std::size_t>(m * n) * 2);
      const auto enqueue = [&](int output, jit::StreamHandle stream) {
        GemmArgs args;
        args.a = matrix(x, DType::kBF16, m, k);
        args.b = &packed;
        args.c = matrix(outputs[static_cast<std::size_t>(output)], DType::kBF16, m, n);
        plan->enqueue(args, stream, true);
      };
      const auto bits = [&](int output, jit::StreamHandle stream) {
        std::vector<std::uint16_t> y(static_cast<std::size_t>(m * n));
        jit::copy_to_host(std::as_writable_bytes(std::span(y)),
                          outputs[static_cast<std::size_t>(output)].data(), stream);
        jit::synchronize(stream);
        return y;
      };
      enqueue(0, streams[0]);
      const std::vector<std::uint16_t> expected = bits(0, streams[0]);
      const jit::Graph graph = jit::Graph::capture(device_, streams[0], [&] {
        for (int i = 0; i < 4; ++i) enqueue(1, streams[0]);
      });
      for (int replay = 0; replay < 3; ++replay) {
        jit::set_bytes(outputs[1].data(), 0xff, outputs[1].size(), streams[0]);
        graph.launch(streams[0]);
        ASSERT_EQ(bits(1, streams[0]), expected) << format << " M " << m << " replay " << replay;
      }
      for (int turn = 0; turn < 50; ++turn)
        for (const int s : {0, 1}) enqueue(1 + s, streams[s]);
      for (const int s : {0, 1})
        ASSERT_EQ(bits(1 + s, streams[s]), expected) << format << " M " << m << " stream " << s;
    }
  }
}

TEST_F(GemmPlanOnGpu, RefusesWhatDoesNotSuitThePlan) {
  const RandomWeight weight(format_by_name("mxfp4"), 64, 128, 5);
  GemmDesc desc;
  desc.weight = weight.format;
  desc.activation = formats::ActivationFormat::bf16();
  desc.n = 64;
  desc.k = 128;
  const auto plan = planner_->plan(desc);
  const PackedWeight packed = planner_->pack(*plan, weight.source());
  const jit::DeviceBuffer x(device_, 4096), y(device_, 4096);
  GemmArgs args;
  args.a = matrix(x, DType::kBF16, 8, 128);
  args.c = matrix(y, DType::kBF16, 8, 64);
  const auto refusal = [&] {
    try {
      plan->enqueue(args, nullptr, false);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(refusal(), HasSubstr("no weight"));
  args.b = &packed;
  EXPECT_EQ(refusal(), "accepted");
  args.a.data = x.as<std::byte>() + 2;
  EXPECT_THAT(refusal(), HasSubstr("16 bytes"));
  args.a.data = nullptr;
  EXPECT_THAT(refusal(), HasSubstr("null operand"));
  args.a = matrix(x, DType::kF16, 8, 128);
  EXPECT_THAT(refusal(), HasSubstr("expected BF16"));
  args.a = matrix(x, DType::kBF16, 7, 128);
  EXPECT_THAT(refusal(), HasSubstr("7 rows"));
  desc.activation = formats::ActivationFormat::fp16();
  EXPECT_TRUE(planner_->can_implement(desc));
  EXPECT_THAT(refusal(), HasSubstr("7 rows")) << "a plan keeps its own formats";
  desc.weight = format_by_name("int4:row:fp32");
  desc.activation = activation_by_name("int8");
  desc.k = (1 << 17) - 128;
  EXPECT_TRUE(planner_->can_implement(desc));
  desc.k = 1 << 17;
  EXPECT_THAT(planner_->can_implement(desc).reason, HasSubstr("at most 131071 columns"));
  desc.weight = format_by_name("int4:g128:bf16");
  EXPECT_TRUE(planner_->can_implement(desc));
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
