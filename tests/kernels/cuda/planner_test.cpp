#include "kernels/cuda/gemm/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/bench/gemm_bench.h"

namespace sabrewing::kernels::cuda {
namespace {

DeviceModel h200() {
  DeviceModel model;
  model.architecture = jit::Architecture::parse("sm_90a");
  return model;
}

GemmProblem problem_of(const char* weights, const char* activations, std::int64_t n, std::int64_t m,
                       int promote = GemmProblem{}.promote) {
  const GemmDesc desc = gemm_bench_case({"", n, n}, weights, activations).desc;
  GemmProblem problem = gemm_problem(desc, weight_layout(desc.weight, desc.activation), m);
  problem.promote = promote;
  return problem;
}

/// A kernel's name but for its stages, of which there are as many as fit.
std::string without_stages(std::string name) {
  const auto stages = name.find(" s");
  if (stages != std::string::npos) name.erase(stages, name.find(' ', stages + 1) - stages);
  return name;
}

/// The fastest of eight timed kernels of the size, on an H200.
struct Fastest {
  const char* weights;
  const char* activations;
  std::int64_t n;
  std::int64_t m;
  const char* kernel;
  double us;
};

TEST(CostModel, PredictsKernelsOfEightBitOperands) {
  const std::vector<Fastest> timed{
      {"int4:g128:bf16", "fp8", 4096, 1, "mma 8x16 w8 a4 k1 r4 p128", 5.8},
      {"int4:g128:bf16", "fp8", 4096, 64, "wgmma 64x64 b1 s10 d1 k2 r1 p512", 8.4},
      {"int4:g128:bf16", "fp8", 4096, 256, "wgmma 64x128 b1 s6 d2 k1 r1 p512", 13.9},
      {"int4:g128:bf16", "fp8", 4096, 4096, "wgmma 128x128 b1 s4 d2 k1 r1 c2 p512", 126.2},
      {"fp8row", "fp8", 4096, 1, "mma 8x16 w8 a4 k1 r4 p128", 6.4},
      {"fp8row", "fp8", 4096, 64, "wgmma 64x64 b1 s6 d2 k1 r1 c2 p512", 7.8},
      {"fp8row", "fp8", 4096, 256, "wgmma 64x128 b1 s9 d1 k1 r1 c2 p512", 14.3},
      {"fp8row", "fp8", 4096, 4096, "wgmma 176x128 b1 s5 d1 k1 r1 c2 p512", 113.3},
      {"int4:g128:bf16", "int8", 4096, 1, "mma 8x32 w8 a2 k1 r2", 4.6},
      {"int4:g128:bf16", "int8", 4096, 64, "wgmma 32x64 b1 s10 d2 k1 r1", 8.2},
      {"int4:g128:bf16", "int8", 4096, 256, "wgmma 64x128 b1 s6 d2 k1 r1", 13.8},
      {"int4:g128:bf16", "int8", 4096, 4096, "wgmma 128x128 b1 s9 d1 k1 r1", 135.8},
      {"int4:g128:bf16", "fp8", 8192, 1, "mma 8x32 w8 a4 k1 r2 p128", 12.5},
      {"int4:g128:bf16", "fp8", 8192, 64, "wgmma 64x128 b1 s10 d1 k2 r1 p512", 16.3},
      {"int4:g128:bf16", "fp8", 8192, 256, "wgmma 128x128 b1 s4 d2 k1 r1 p512", 34.2},
      {"int4:g128:bf16", "fp8", 8192, 4096, "wgmma 160x128 b1 s7 d1 k1 r1 c2 p512", 456.9},
      {"fp8row", "fp8", 8192, 1, "mma 8x32 w8 a2 k1 r2 p128", 16.7},
      {"fp8row", "fp8", 8192, 64, "wgmma 64x64 b1 s6 d2 k1 r1 c2 p512", 19.1},
      {"fp8row", "fp8", 8192, 256, "wgmma 128x128 b1 s6 d1 k1 r1 c2 p512", 35.2},
      {"fp8row", "fp8", 8192, 4096, "wgmma 192x128 b1 s5 d1 k1 r1 c2 p512", 421.5},
      {"int4:g128:bf16", "int8", 8192, 1, "mma 8x32 w8 a4 k1 r2", 10.2},
      {"int4:g128:bf16", "int8", 8192, 64, "wgmma 64x128 b1 s6 d2 k2 r1", 16.1},
      {"int4:g128:bf16", "int8", 8192, 256, "wgmma 128x128 b1 s9 d1 k1 r1", 34.4},
      {"int4:g128:bf16", "int8", 8192, 4096, "wgmma 160x128 b1 s7 d1 k1 r1", 505.7},
  };
  int among_first = 0;  // as many as the tuner times
  for (const Fastest& fastest : timed) {
    const std::string name = std::string(fastest.weights) + " x " + fastest.activations +
                             " N=K=" + std::to_string(fastest.n) + " M=" + std::to_string(fastest.m);
    const GemmProblem problem = problem_of(fastest.weights, fastest.activations, fastest.n, fastest.m);
    const std::vector<Candidate> all = candidates(h200(), problem, kEveryCandidate);
    const auto found = std::find_if(all.begin(), all.end(), [&](const Candidate& candidate) {
      return without_stages(candidate.shape.to_string()) == without_stages(fastest.kernel);
    });
    ASSERT_NE(found, all.end()) << name << ": " << fastest.kernel;
    among_first += found - all.begin() < 8;
    EXPECT_LT(std::abs(std::log(found->predicted_us / fastest.us)), std::log(1.35)) << name;
    EXPECT_LT(found->predicted_us, 1.25 * all[0].predicted_us) << name;
  }
  EXPECT_GE(among_first, 22);
}

TEST(CostModel, ShorterRunsOfEightBitSumsCostMore) {
  KernelShape shape{KernelShape::Family::kWgmma, 128, 1, 2, 3, 1, 1, 2, 0};
  shape.share = 2;  // else the bytes read from L2 bound it
  double last = 0;
  for (const int promote : {0, 512, 256, 128}) {
    shape.promote = promote;
    const double us = predict_us(h200(), problem_of("int4row", "fp8", 8192, 4096, promote), shape);
    EXPECT_GT(us, 1.02 * last) << promote;
    last = us;
  }
  // Groups of the activations end runs too.
  shape.promote = 512;
  EXPECT_GT(predict_us(h200(), problem_of("int4row", "fp8g128", 8192, 4096, 512), shape), 0.999 * last);
}

TEST(CostModel, EightBitOperandsTakeLessAtLargeM) {
  const auto first = [](const char* activations) {
    return candidates(h200(), problem_of("fp8row", activations, 8192, 4096), 1).at(0).predicted_us;
  };
  EXPECT_LT(1.2 * first("fp8"), first("bf16"));
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
