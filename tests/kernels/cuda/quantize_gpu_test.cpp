#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/bench/quantize_bench.h"

namespace sabrewing::kernels::cuda {
namespace {

using ::testing::HasSubstr;

class QuantizersOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const Feasibility feasible = jit::driver_available(); !feasible) GTEST_SKIP() << feasible.reason;
    const auto compiler = std::make_shared<jit::Compiler>();
    if (const Feasibility feasible = compiler->available(); !feasible) GTEST_SKIP() << feasible.reason;
    bench_ = std::make_unique<BenchDevice>(jit::Device::open(), compiler);
  }
  std::unique_ptr<BenchDevice> bench_;
};

TEST_F(QuantizersOnGpu, MatchTheReferenceByteForByte) {
  for (const char* name : {"fp8", "fp8e5m2", "int8", "int4", "fp4", "fp8g128", "int8g128", "int4g128",
                           "fp4g128", "mxfp8", "mxfp4"})
    for (const DType input : {DType::kBF16, DType::kF16})
      for (const std::int64_t k : {8, 264, 2880, 8192, 40960}) {
        const QuantizeDesc desc{activation_by_name(name), input, k};
        if (!ActivationQuantizer::can_implement(desc, bench_->device()->info().architecture)) continue;
        QuantizeCell cell(*bench_, desc, 600);
        for (const std::int64_t m : {1, 3, 64, 600})
          EXPECT_EQ(cell.check(m), "") << name << " of " << to_string(input);
      }
}

TEST_F(QuantizersOnGpu, MisuseIsRefused) {
  const QuantizeDesc desc{activation_by_name("int8"), DType::kBF16, 256};
  const QuantizeCell cell(*bench_, desc, 4);
  const auto refusal = [&](const auto& change) {
    QuantizeArgs args = cell.args(4);
    change(args);
    try {
      cell.quantizer().enqueue(args, bench_->stream(), false);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refusal([](QuantizeArgs&) {}), "accepted");
  EXPECT_EQ(refusal([](QuantizeArgs& a) { a.x.rows = a.codes.rows = 0; }), "accepted");
  EXPECT_THAT(refusal([](QuantizeArgs& a) { a.scales = nullptr; }), HasSubstr("null operand"));
  EXPECT_THAT(refusal([](QuantizeArgs& a) { a.x.rows = 3; }), HasSubstr("3 rows"));
  EXPECT_THAT(refusal([](QuantizeArgs& a) { a.x.cols = 128; }), HasSubstr("128 columns"));
  EXPECT_THAT(refusal([](QuantizeArgs& a) { a.x.dtype = DType::kF16; }), HasSubstr("BF16 and I8 expected"));
  EXPECT_THAT(refusal([](QuantizeArgs& a) { a.x.row_stride = 260; }), HasSubstr("16 bytes"));
  EXPECT_THAT(refusal([](QuantizeArgs& a) { a.codes.row_stride = 128; }), HasSubstr("overlap"));
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
