#include <gtest/gtest.h>

#include "kernels/cuda/backend/kernel_unit.h"

namespace sabrewing::kernels::cuda {
namespace {

using formats::WeightFormat;

struct Case {
  std::string name;
  jit::KernelSource source;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.source.name; }

std::vector<Case> cases() {
  std::vector<Case> list;
  for (const std::string architecture : {"sm_80", "sm_90a"}) {
    const jit::Architecture target = jit::Architecture::parse(architecture);
    for (const DType activation : {DType::kBF16, DType::kF32}) {
      const std::string suffix = fmt::format("{}_{}", to_string(activation), architecture);
      list.push_back({"ops_" + suffix, ops_source(activation, target)});
      for (const WeightFormat& format :
           {WeightFormat::bf16(), WeightFormat::fp16(), WeightFormat::fp32(), WeightFormat::mxfp4()})
        list.push_back({fmt::format("linear_{}_{}", formats::to_string(format), suffix),
                        linear_source(format, activation, target)});
    }
  }
  return list;
}

class OpSourceCompiles : public ::testing::TestWithParam<Case> {};

TEST_P(OpSourceCompiles, WithoutSpills) {
  static jit::Compiler compiler;
  if (const Feasibility feasible = compiler.available(); !feasible) GTEST_SKIP() << feasible.reason;
  const auto compiled = compiler.compile(GetParam().source);
  EXPECT_EQ(compiled->warnings, "");
  for (const std::string& expression : GetParam().source.expressions) {
    const jit::KernelResources& resources = compiled->function(expression).resources;
    EXPECT_EQ(resources.spill_store_bytes, 0) << expression;
    EXPECT_EQ(resources.spill_load_bytes, 0) << expression;
    // sincosf reduces large angles through an array.
    if (!expression.starts_with("rope")) {
      EXPECT_EQ(resources.stack_bytes, 0) << expression;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuda, OpSourceCompiles, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

TEST(OpSources, RefusesFormatsByName) {
  const RowWeight weight = row_weight(WeightFormat::nvfp4());
  EXPECT_FALSE(weight.feasible);
  EXPECT_NE(weight.feasible.reason.find("nvfp4"), std::string::npos);
  EXPECT_THROW(linear_source(WeightFormat::nvfp4(), DType::kBF16, jit::Architecture::parse("sm_90a")), Error);
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
