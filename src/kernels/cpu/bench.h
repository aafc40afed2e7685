#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/thread_pool.h"
#include "formats/scheme/weight_format.h"
#include "kernels/cpu/tier.h"
#include "kernels/gemm.h"
#include "kernels/moe.h"

namespace sabrewing::kernels::cpu {

/// What the machine can do with `threads` threads, by register-only loops of the tier's best instruction and
/// by reading memory once. An operation is a multiply or an add. Zero where the tier has no such instruction.
struct MachineRates {
  int threads = 0;
  double read_bytes_per_second = 0;
  double int8_ops_per_second = 0;  ///< VPDPBUSD; on AVX2 VPMADDUBSW, VPMADDWD and VPADDD
  double bf16_ops_per_second = 0;  ///< VDPBF16PS
  double fp32_ops_per_second = 0;  ///< fused multiply-add; on the scalar tier MULPS and ADDPS
};

/// Last-level cache of one socket in bytes, at least 1 MiB.
std::size_t last_level_cache_bytes();

/// Best of many windows of about 10 ms; reads `read_bytes`, by default four times the last-level cache.
/// `threads` of 0: all.
MachineRates measure_rates(int threads, CpuTier tier = best_tier(cpu_features()), std::size_t read_bytes = 0);

/// `int8_ops_per_second` over some time.
struct Int8Rate {
  double sustained = 0;  ///< all of it
  double best = 0;       ///< of the windows of about 3 ms: what `measure_rates` gives
};
/// For `seconds`, to be compared with work of that length: where processors are shared and clocks change, a
/// window of milliseconds is above what a second gets. With the same pool for all, so that the system has
/// long spread its threads over the processors.
Int8Rate measure_int8_rate(ThreadPool& pool, double seconds, CpuTier tier = best_tier(cpu_features()));

/// One timing. `intermediate` = 0: a GEMM (n, k); else the experts of a layer.
struct KernelBenchCase {
  std::string name;
  formats::WeightFormat weight;
  std::int64_t m = 1;
  std::int64_t n = 0;  ///< experts: hidden size
  std::int64_t k = 0;
  std::int64_t experts = 0;
  std::int64_t top_k = 0;
  std::int64_t intermediate = 0;
  GluActivation activation = GluActivation::kSilu;
  Accuracy accuracy = Accuracy::kDefault;
  int threads = 0;               ///< 0: all
  double min_read_fraction = 0;  ///< thresholds of check_kernel_bench; 0: none
  double min_op_fraction = 0;
};

/// The cases of a shapes file: {"gemm": [{"weight": "mxfp4", "n", "k", "m", "threads", "accuracy",
/// "min_read_fraction", "min_op_fraction"}], "experts": [{"name", "weight", "experts", "top_k", "hidden",
/// "intermediate", "activation", "m", ...}]}; what follows "m" may be absent. Throws `Error{kCorrupt}` naming
/// `what` and the field.
std::vector<KernelBenchCase> parse_kernel_bench_cases(std::string_view json, std::string_view what);
/// The cases of bench/shapes.json, compiled in.
std::vector<KernelBenchCase> default_kernel_bench_cases();

struct KernelBenchOptions {
  std::vector<KernelBenchCase> cases;
  CpuTier tier = best_tier(cpu_features());
  int threads = 0;               ///< what "all" means; 0: the processors of this process
  int passes = 5;                ///< over all copies of the weights
  std::size_t rotate_bytes = 0;  ///< weights read before one is read again; 0: four last-level caches
  /// Called before each step; false stops.
  std::function<bool(std::size_t step, std::size_t steps, const std::string& name)> progress;
};

struct KernelBenchRow {
  KernelBenchCase test;
  std::string kernel;
  int threads = 0;
  double seconds = 0;         ///< per call, best window of at least 10 ms
  double median_seconds = 0;  ///< of the windows
  double weight_bytes = 0;    ///< read by one call, padding included
  double ops = 0;             ///< 2 M N K of the product
  double read_fraction = 0;   ///< of the read bandwidth with as many threads
  double op_fraction = 0;     ///< of the rate named `op_rate`
  std::string op_rate;        ///< "int8" for MXFP4, "bf16" for BF16 where the processor has it, else "fp32"
  double fp32_fraction = 0;   ///< of the FP32 multiply-add rate
};

struct KernelBenchResult {
  CpuTier tier = CpuTier::kScalar;
  std::string processor;
  std::string cpuid;
  std::string compiler;
  std::size_t last_level_cache = 0;
  std::size_t rotate_bytes = 0;
  std::vector<MachineRates> rates;  ///< one per thread count used, best of before and after
  std::vector<KernelBenchRow> rows;
  bool complete = true;  ///< false: stopped
};

KernelBenchResult run_kernel_bench(const KernelBenchOptions& options);

/// Lines for people.
std::string format_kernel_bench(const KernelBenchResult& result);
/// {"machine": {...}, "rates": [...], "rows": [...]}
std::string kernel_bench_json(const KernelBenchResult& result);
/// One line for each row below its threshold; empty when all hold.
std::vector<std::string> check_kernel_bench(const KernelBenchResult& result);

}  // namespace sabrewing::kernels::cpu
