#include "jit/nvrtc_compiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "jit/nvrtc_library.h"

namespace sabrewing::jit {
namespace {

using ::testing::HasSubstr;

KernelSource scale_source(std::string_view architecture = "sm_90a") {
  KernelSource source;
  source.name = "scale";
  source.headers = std::make_shared<HeaderSet>(std::vector<std::pair<std::string, std::string>>{
      {"math/factor.cuh", "#pragma once\n#define FACTOR 3.0f\n"},
      {"math/scale.cuh",
       "#pragma once\n#include \"math/factor.cuh\"\n"
       "template <int N> __global__ void scale(float* x) { x[threadIdx.x] *= N * FACTOR; }\n"}});
  source.source = "#include \"math/scale.cuh\"\n";
  source.expressions = {"scale<2>", "scale<5>"};
  source.architecture = Architecture::parse(architecture);
  return source;
}

#define REQUIRE_NVRTC(compiler) \
  if (const Feasibility feasible = (compiler).available(); !feasible) GTEST_SKIP() << feasible.reason

class CompilerArchitectures : public ::testing::TestWithParam<const char*> {};

TEST_P(CompilerArchitectures, GivesACubinForTheExactArchitecture) {
  Compiler compiler;
  REQUIRE_NVRTC(compiler);
  const auto compiled = compiler.compile(scale_source(GetParam()));
  ASSERT_GT(compiled->cubin.size(), 64u);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(compiled->cubin.data()), 4),
            "\x7f"
            "ELF");
  ASSERT_EQ(compiled->functions.size(), 2u);
  EXPECT_EQ(compiled->function("scale<2>").lowered_name, "_Z5scaleILi2EEvPf");
  EXPECT_EQ(compiled->function("_Z5scaleILi5EEvPf").expression, "scale<5>");
  EXPECT_GT(compiled->function("scale<2>").resources.registers, 0);
  EXPECT_EQ(compiled->function("scale<2>").resources.spill_store_bytes, 0);
  EXPECT_EQ(compiled->warnings, "");
  EXPECT_EQ(compiled->architecture.to_string(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Jit, CompilerArchitectures,
                         ::testing::Values("sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_103a",
                                           "sm_120a"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace sabrewing::jit
