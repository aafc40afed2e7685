#include "cli/bench_kernel.h"

#include <fmt/core.h>

#include "cli/progress.h"
#include "core/mapped_file.h"
#include "kernels/cpu/bench.h"
#include "kernels/cuda/bench/gemm_bench.h"
#include "kernels/cuda/bench/quantize_bench.h"

namespace sabrewing::cli {
namespace {

struct BenchKernelArguments {
  CLI::App* command = nullptr;
  std::string device = "cpu";
  std::string shapes;
  std::vector<std::string> weights;
  std::vector<std::string> activations;
  std::vector<std::int64_t> m;
  std::vector<std::string> quantize;
  std::vector<std::int64_t> k;
  std::int64_t burst_from = 128;
  bool explain = false;
  std::string cpu_tier;
  int threads = 0;
  int passes = 5;
  std::size_t rotate_megabytes = 0;
  bool check = false;
  bool json = false;
};

/// Flags of the other device are mistakes, not wishes to be dropped.
void refuse_flags(const BenchKernelArguments& options, std::initializer_list<const char*> flags) {
  for (const char* flag : flags)
    if (options.command->count(flag) > 0)
      fail(ErrorCode::kInvalidArgument, "[bench] {} has no meaning with --device {}", flag, options.device);
}

int bench_quantizers(const BenchKernelArguments& options) {
  namespace cuda = kernels::cuda;
  refuse_flags(options, {"--cpu-tier", "--threads", "--passes", "--rotate-mb", "--check", "--weights",
                         "--activations", "--shapes", "--burst-from", "--explain"});
  cuda::QuantizeBenchOptions bench;
  bench.formats = options.quantize;
  bench.k = options.k.empty() ? std::vector<std::int64_t>{2880, 8192} : options.k;
  bench.m = options.m.empty() ? std::vector<std::int64_t>{1, 64, 1024, 8192} : options.m;
  catch_interrupt();
  cuda::QuantizeBenchResult result;
  {
    ProgressBar bar("timing");
    bench.progress = [&](std::size_t step, std::size_t steps, const std::string& name) {
      bar.update(step, steps, name);
      return !interrupted();
    };
    result = cuda::run_quantize_bench(bench);
  }
  for (const std::string& refusal : result.refusals)
    fmt::print(stderr, "sabrewing: not timed: {}\n", refusal);
  int wrong = 0;
  for (const cuda::QuantizeBenchRow& row : result.rows)
    if (!row.difference.empty()) {
      ++wrong;
      fmt::print(stderr, "sabrewing: wrong: {}: {}\n", row.format, row.difference);
    }
  if (options.json) {
    fmt::print("{}\n", cuda::quantize_bench_json(result));
  } else {
    std::vector<std::vector<std::string>> table{
        {"activations", "K", "M", "us", "serial", "floor", "of floor"}};
    for (const cuda::QuantizeBenchRow& row : result.rows)
      table.push_back({row.format, fmt::format("{}", row.k), fmt::format("{}", row.m),
                       fmt::format("{:.2f}", row.us), fmt::format("{:.2f}", row.us_serial),
                       fmt::format("{:.2f}", row.floor_us), fmt::format("{:.2f}", row.floor_us / row.us)});
    fmt::print("{}\n{}", result.device, format_table(table));
  }
  return result.complete && wrong == 0 ? 0 : 1;
}

int bench_cuda(const BenchKernelArguments& options) {
  namespace cuda = kernels::cuda;
  if (!options.quantize.empty()) return bench_quantizers(options);
  refuse_flags(options, {"--k"});
  refuse_flags(options, {"--cpu-tier", "--threads", "--passes", "--rotate-mb", "--check"});
  cuda::GemmBenchOptions bench;
  bench.cases = options.shapes.empty() ? cuda::default_gemm_bench_cases()
                                       : cuda::parse_gemm_bench_cases(
                                             read_text_file(options.shapes, kShapesLimit), options.shapes);
  if (!options.weights.empty()) bench.cases.weights = options.weights;
  if (!options.activations.empty()) bench.cases.activations = options.activations;
  if (!options.m.empty()) bench.cases.m = options.m;
  bench.burst_from = options.burst_from;
  catch_interrupt();
  cuda::GemmBenchResult result;
  {
    ProgressBar bar("timing");
    bench.progress = [&](std::size_t step, std::size_t steps, const std::string& name) {
      bar.update(step, steps, name);
      return !interrupted();
    };
    result = cuda::run_gemm_bench(bench);
  }
  for (const std::string& refusal : result.refusals)
    fmt::print(stderr, "sabrewing: not timed: {}\n", refusal);
  if (options.explain)
    for (const std::string& plan : result.explanations)
      fmt::print(options.json ? stderr : stdout, "{}\n", plan);
  if (options.json) {
    fmt::print("{}\n", cuda::gemm_bench_json(result));
    return result.complete ? 0 : 1;
  }
  std::vector<std::vector<std::string>> table{{"shape", "N", "K", "weights", "activations", "M", "us",
                                               "serial", "floor", "of floor", "error", "kernel"}};
  for (const cuda::GemmBenchRow& row : result.rows)
    table.push_back({row.shape.name, fmt::format("{}", row.shape.n), fmt::format("{}", row.shape.k),
                     row.weights, row.activations, fmt::format("{}", row.m), fmt::format("{:.2f}", row.us),
                     fmt::format("{:.2f}", row.us_serial), fmt::format("{:.2f}", row.floor_us),
                     fmt::format("{:.2f}", row.floor_us / row.us), fmt::format("{:.1e}", row.error),
                     row.kernel});
  fmt::print("{}, {} multiprocessors\n{}", result.device, result.multiprocessors, format_table(table));
  return result.complete ? 0 : 1;
}

int bench_cpu(const BenchKernelArguments& options) {
  namespace cpu = kernels::cpu;
  refuse_flags(options,
               {"--weights", "--activations", "--m", "--k", "--quantize", "--burst-from", "--explain"});
  cpu::KernelBenchOptions bench;
  bench.cases = options.shapes.empty() ? cpu::default_kernel_bench_cases()
                                       : cpu::parse_kernel_bench_cases(
                                             read_text_file(options.shapes, kShapesLimit), options.shapes);
  bench.tier = cpu::select_tier(options.cpu_tier);
  bench.threads = options.threads;
  bench.passes = options.passes;
  bench.rotate_bytes = options.rotate_megabytes * 1000000;
  catch_interrupt();
  ProgressBar bar("timing");
  bench.progress = [&](std::size_t step, std::size_t steps, const std::string& name) {
    bar.update(step, steps, name);
    return !interrupted();
  };
  const cpu::KernelBenchResult result = cpu::run_kernel_bench(bench);
  fmt::print("{}\n", options.json ? cpu::kernel_bench_json(result) : cpu::format_kernel_bench(result));
  if (!result.complete) return 1;
  if (!options.check) return 0;
  const std::vector<std::string> failures = cpu::check_kernel_bench(result);
  for (const std::string& failure : failures)
    fmt::print(stderr, "sabrewing: below its threshold: {}\n", failure);
  return failures.empty() ? 0 : 1;
}

int bench_kernel(const BenchKernelArguments& options) {
  return options.device == "cuda" ? bench_cuda(options) : bench_cpu(options);
}

}  // namespace

void add_bench_kernel(CLI::App& bench, Action& action) {
  auto options = std::make_shared<BenchKernelArguments>();
  CLI::App* command = bench.add_subcommand("kernel", "Time matrix products beside the machine's own rates");
  options->command = command;
  add_flag_option(*command, "--device", options->device, "Where: cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  add_flag_option(
      *command, "--shapes", options->shapes,
      "JSON file like bench/shapes.json, with cuda bench/shapes_cuda.json; without it the built-in shapes");
  add_flag_option(*command, "--weights", options->weights,
                  "cuda: weight formats, as mxfp4,int4g128,int4row,fp8row")
      ->delimiter(',');
  add_flag_option(*command, "--activations", options->activations,
                  "cuda: activation formats, as bf16,fp8,int8,fp8g128")
      ->delimiter(',');
  add_flag_option(*command, "--m", options->m, "cuda: numbers of rows")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  add_flag_option(*command, "--quantize", options->quantize,
                  "cuda: activation quantizers instead, as fp8,fp8g128,mxfp8,int8,int4,fp4")
      ->delimiter(',');
  add_flag_option(*command, "--k", options->k, "cuda: with --quantize, numbers of columns")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  add_flag_option(*command, "--burst-from", options->burst_from,
                  "cuda: from this many rows, rest before each burst")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--explain", options->explain,
                    "cuda: print the plans: tiles, predictions, other kernels");
  add_flag_option(*command, "--cpu-tier", options->cpu_tier, "Force a kernel tier: scalar, avx2 or avx512");
  add_flag_option(*command, "--threads", options->threads,
                  "What \"all threads\" means; 0: every available processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_flag_option(*command, "--passes", options->passes, "Passes over all copies of the weights")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  add_flag_option(*command, "--rotate-mb", options->rotate_megabytes,
                  "Weights read before one is read again; 0: four last-level caches")
      ->check(CLI::Range(std::size_t{0}, std::size_t{1} << 20))
      ->capture_default_str();
  command->add_flag("--check", options->check, "Exit with 1 when a shape is below its threshold");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->footer(
      "Examples:\n  sabrewing bench kernel\n  sabrewing bench kernel --check --json > result.json\n"
      "  sabrewing bench kernel --device cuda --weights mxfp4 --m 1,16,256 --explain\n"
      "  sabrewing bench kernel --device cuda --quantize fp8,mxfp8 --m 1,1024");
  command->callback([options, &action] { action = [options] { return bench_kernel(*options); }; });
}

}  // namespace sabrewing::cli
