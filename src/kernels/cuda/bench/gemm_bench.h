#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/gemm.h"

namespace sabrewing::kernels::cuda {

struct GemmBenchShape {
  std::string name;  ///< "gpt-oss qkv"
  std::int64_t n = 0;
  std::int64_t k = 0;
};

/// What is timed: every weight format with every activation format on every shape at every M.
struct GemmBenchCases {
  std::vector<GemmBenchShape> shapes;
  std::vector<std::int64_t> m;
  std::vector<std::string> weights;              ///< names of `format_by_name`
  std::vector<std::string> activations{"bf16"};  ///< names of `activation_by_name`
};

/// A pair of formats on one shape.
struct GemmBenchCase {
  GemmBenchShape shape;
  std::string weights;
  std::string activations;
  GemmDesc desc;

  std::string name() const;  ///< "mxfp4 x fp8 4096x4096"
};

/// "int4g128" becomes "int4g64" where 128 does not divide K. Throws `Error{kInvalidArgument}` for unknown
/// names.
GemmBenchCase gemm_bench_case(const GemmBenchShape& shape, std::string weights, std::string activations);
/// All of them, those of a pair of formats side by side.
std::vector<GemmBenchCase> every_case(const GemmBenchCases& cases);

/// Reads text like bench/shapes_cuda.json. Throws `Error{kCorrupt}` naming `what` and the field.
GemmBenchCases parse_gemm_bench_cases(std::string_view json, std::string_view what);
/// Those of bench/shapes_cuda.json, compiled in.
GemmBenchCases default_gemm_bench_cases();

struct GemmBenchOptions {
  GemmBenchCases cases;
  int ordinal = 0;
  std::int64_t burst_from = 128;  ///< from this M on timed in bursts after a pause
  /// Called before each cell; false stops.
  std::function<bool(std::size_t step, std::size_t steps, const std::string& name)> progress;
};

struct GemmBenchRow {
  GemmBenchShape shape;
  std::int64_t m = 0;
  std::string weights;
  std::string activations;
  std::string kernel;
  double us = 0;         ///< launches overlapping, as in a chain of layers
  double us_serial = 0;  ///< each kernel waits for the one before it
  double floor_us = 0;   ///< by the memory rate and arithmetic rate of an H200
  double error = 0;      ///< relative Frobenius, against float64
  double error_bound = 0;
};

struct GemmBenchResult {
  std::string device;
  int multiprocessors = 0;
  int driver_version = 0;
  std::vector<GemmBenchRow> rows;
  std::vector<std::string> explanations;  ///< of each plan
  std::vector<std::string> refusals;      ///< formats or shapes that have no kernel, with the reason
  bool complete = true;                   ///< false: stopped
};

/// Times the plans of `GemmPlanner`: random weights rotated past four L2 caches, CUDA graphs, medians; every
/// kernel is first checked against float64. Throws `Error{kDevice}` without a usable GPU, `Error{kInternal}`
/// when a kernel's error is above its bound.
GemmBenchResult run_gemm_bench(const GemmBenchOptions& options);

/// {"machine": {...}, "method": "...", "rows": [{n, k, m, weights, activations, impl, us, floor_us, error,
/// ...}]}
std::string gemm_bench_json(const GemmBenchResult& result);

}  // namespace sabrewing::kernels::cuda
