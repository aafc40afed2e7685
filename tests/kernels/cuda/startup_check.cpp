// The time from the start of this process to its first W4A16 result on the device, without the driver's own
// initialisation, and the host's cost of one enqueue. The cache folder decides whether that start is cold.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "jit/cubin_cache.h"
#include "kernels/cuda/bench/random_weight.h"
#include "kernels/cuda/gemm/gemm_plan.h"

namespace sabrewing::kernels::cuda {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string weights = "mxfp4";
  std::string cache;
  std::string out;
  double first_s = 2.0;
  double compile_s = 1.0;
  double hit_ms = 5;
  double enqueue_us = 3;
};

double seconds_since(Clock::time_point from) {
  return std::chrono::duration<double>(Clock::now() - from).count();
}

/// Of this process so far, by the system's clock.
double process_seconds() {
  std::ifstream stat("/proc/self/stat"), uptime("/proc/uptime");
  std::string text;
  std::getline(stat, text);
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  std::string field;
  for (int i = 0; i < 20; ++i) fields >> field;  // field 22 of the line: the start, in ticks of 10 ms
  double up = 0;
  uptime >> up;
  return up - std::stod(field) / 100;
}

int run(const Options& options) {
  const Clock::time_point main_begin = Clock::now();
  const double before_main = std::max(0.0, process_seconds());
  const auto device = jit::Device::open();
  const double driver = seconds_since(main_begin);
  const auto cache = options.cache.empty() ? jit::CubinCache::open_default()
                                           : std::make_shared<jit::CubinCache>(options.cache);
  const auto compiler = std::make_shared<jit::Compiler>(jit::CompilerOptions{std::nullopt, cache});
  GemmPlanner planner(device, compiler);
  GemmDesc desc;
  desc.weight = format_by_name(options.weights);
  desc.activation = formats::ActivationFormat::bf16();
  desc.n = 512;
  desc.k = 4096;
  const RandomWeight weight(desc.weight, desc.n, desc.k, 3);
  const std::vector<std::uint16_t> x = random_bf16(static_cast<std::size_t>(desc.k), 5);
  const jit::Stream stream(device);

  const Clock::time_point plan_begin = Clock::now();
  const auto plan = planner.plan(desc);
  const double planned = seconds_since(plan_begin);
  const PackedWeight packed = planner.pack(*plan, weight.source());
  const jit::DeviceBuffer x_device(device, x.size() * 2),
      y_device(device, static_cast<std::size_t>(desc.n) * 2);
  jit::copy_to_device(x_device.data(), std::as_bytes(std::span(x)), stream);
  GemmArgs args;
  args.a = {x_device.data(), DType::kBF16, 1, desc.k, desc.k};
  args.b = &packed;
  args.c = {y_device.data(), DType::kBF16, 1, desc.n, desc.n};
  plan->enqueue(args, stream, false);
  std::vector<std::uint16_t> y(static_cast<std::size_t>(desc.n));
  jit::copy_to_host(std::as_writable_bytes(std::span(y)), y_device.data(), stream);
  stream.synchronize();
  const double first = before_main + seconds_since(main_begin) - driver;
  SABREWING_CHECK(std::any_of(y.begin(), y.end(), [](auto v) { return (v & 0x7fff) != 0; }), kInternal,
                  "[startup] the result is zero");

  const jit::CompilerCounters counters = compiler->counters();
  // One kernel alone: cold without a cache, and from it.
  double alone = 0, hit = 0;
  {
    const WeightLayout layout = weight_layout(desc.weight);
    const auto all =
        candidates(DeviceModel::of(device->info()), gemm_problem(desc, layout, 96), kEveryCandidate);
    const KernelFormats formats{layout, desc.activation, desc.output, all.back().scale_after, false};
    const jit::KernelSource source = kernel_source(all.back().shape, formats, device->info().architecture);
    Clock::time_point begin = Clock::now();
    jit::Compiler().compile(source);
    alone = seconds_since(begin);
    if (cache) {
      jit::Compiler({std::nullopt, cache}).compile(source);  // stored
      jit::Compiler again({std::nullopt, cache});
      begin = Clock::now();
      again.compile(source);
      hit = seconds_since(begin);
      SABREWING_CHECK(again.counters().compiled == 0, kInternal, "[startup] a cache hit compiled");
    }
  }

  // Batches that the queue takes without making the host wait.
  constexpr int kBatch = 200;
  std::vector<double> costs;
  for (int batch = 0; batch < 50; ++batch) {
    const Clock::time_point begin = Clock::now();
    for (int i = 0; i < kBatch; ++i) plan->enqueue(args, stream, true);
    costs.push_back(1e6 * seconds_since(begin) / kBatch);
    stream.synchronize();
  }
  std::nth_element(costs.begin(), costs.begin() + 25, costs.end());
  const double enqueue = costs[25];
  const std::uint64_t later = compiler->counters().compiled - counters.compiled;

  const nlohmann::json row = {{"weights", options.weights},      {"driver_s", driver},
                              {"before_main_s", before_main},    {"plan_s", planned},
                              {"first_result_s", first},         {"compiled", counters.compiled},
                              {"disk_hits", counters.disk_hits}, {"compile_one_s", alone},
                              {"cache_hit_ms", 1e3 * hit},       {"enqueue_us", enqueue},
                              {"compiled_after_warm_up", later}};
  if (!options.out.empty()) std::ofstream(options.out) << row.dump(1) << "\n";
  const bool ok = first <= options.first_s && alone <= options.compile_s && 1e3 * hit <= options.hit_ms &&
                  enqueue <= options.enqueue_us && later == 0;
  fmt::print(
      "first result after {:.2f} s (at most {:.1f}; driver {:.2f} s apart), {} compiled, {} from the cache; "
      "one "
      "compile {:.2f} s, a cache hit {:.2f} ms, an enqueue {:.2f} us, {} compiled after warm-up\n",
      first, options.first_s, driver, counters.compiled, counters.disk_hits, alone, 1e3 * hit, enqueue,
      later);
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace sabrewing::kernels::cuda

int main(int argc, char** argv) {
  sabrewing::kernels::cuda::Options options;
  CLI::App app("Times the start and an enqueue of the CUDA GEMM");
  app.add_option("--weights", options.weights, "Weight format");
  app.add_option("--cache", options.cache, "Cache folder instead of the default");
  app.add_option("--out", options.out, "JSON file");
  app.add_option("--first", options.first_s, "Seconds allowed to the first result");
  app.add_option("--compile", options.compile_s, "Seconds allowed to compile one kernel");
  app.add_option("--hit", options.hit_ms, "Milliseconds allowed to a cache hit");
  app.add_option("--enqueue", options.enqueue_us, "Microseconds allowed to an enqueue");
  CLI11_PARSE(app, argc, argv);
  try {
    return sabrewing::kernels::cuda::run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
