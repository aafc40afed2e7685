#include "cli/bench_kernel.h"

#include <fmt/core.h>

#include "cli/progress.h"
#include "core/mapped_file.h"
#include "kernels/cpu/bench.h"

namespace sabrewing::cli {
namespace {

constexpr std::size_t kShapesLimit = std::size_t{1} << 20;

struct Options {
  std::string shapes;
  std::string cpu_tier;
  int threads = 0;
  int passes = 5;
  std::size_t rotate_megabytes = 0;
  bool check = false;
  bool json = false;
};

int bench_kernel(const Options& options) {
  namespace cpu = kernels::cpu;
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

}  // namespace

void add_bench_kernel(CLI::App& bench, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand("kernel", "Time matrix products beside the machine's own rates");
  add_flag_option(*command, "--shapes", options->shapes,
                  "JSON file like bench/shapes.json; without it the built-in shapes");
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
      "Examples:\n  sabrewing bench kernel\n  sabrewing bench kernel --check --json > result.json");
  command->callback([options, &action] { action = [options] { return bench_kernel(*options); }; });
}

}  // namespace sabrewing::cli
