#include <fmt/core.h>
#include <sys/resource.h>

#include "cli/bench_kernel.h"
#include "cli/bench_serve.h"
#include "cli/bench_throughput.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "core/json.h"
#include "core/thread_pool.h"
#include "engine/latency.h"
#include "kernels/cpu/bench.h"

namespace sabrewing::cli {
namespace {

struct BenchArguments {
  ModelOptions model;
  engine::LatencyOptions latency;
  bool json = false;
};

std::size_t peak_memory() {
  struct rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

int bench_latency(const BenchArguments& options) {
  engine::LoadedModel model = load_model(options.model, options.json);
  engine::GeneratorOptions generator_options = options.model.generator_options();
  if (generator_options.max_context == 0)
    generator_options.max_context = options.latency.prompt_tokens + options.latency.output_tokens;
  engine::Generator generator(model, generator_options);
  const std::size_t plan = engine::Generator::plan_memory(model, generator_options).total();
  catch_interrupt();
  // The rates are the processor's: they say nothing of a GPU.
  const bool on_cpu = model.backend->name() == "cpu";
  engine::LatencyResult result;
  ThreadPool pool(options.model.threads > 0 ? options.model.threads : available_processors());
  // A processor's clock may change from one repeat to the next: each prompt has its own rate beside it.
  std::vector<double> int8_sustained;
  std::vector<double> int8_best;
  std::vector<double> int8_ops;  // that the sustained rate does in the time of the prompt
  {
    ProgressBar bar("timing");
    result =
        engine::measure_latency(model, generator, options.latency, [&](std::int64_t repeat, double seconds) {
          if (on_cpu) {
            const kernels::cpu::Int8Rate rate = kernels::cpu::measure_int8_rate(pool, seconds);
            int8_sustained.push_back(rate.sustained);
            int8_best.push_back(rate.best);
            int8_ops.push_back(rate.sustained * seconds);
          }
          bar.update(static_cast<std::uint64_t>(repeat + 1),
                     static_cast<std::uint64_t>(options.latency.repeats), "");
          return !interrupted();
        });
  }
  const std::size_t peak = peak_memory();
  const double prompt_rate = static_cast<double>(options.latency.prompt_tokens) / result.prefill.median;
  const double decode_rate = 1 / result.decode.median;
  const double read = static_cast<double>(result.bytes_per_token) * decode_rate;
  const double flops = result.flops_per_prompt / result.prefill.median;
  kernels::cpu::MachineRates rates;
  if (on_cpu) rates = kernels::cpu::measure_rates(options.model.threads);
  const double int8_rate = engine::summarise(int8_sustained).median;
  const double int8_peak = engine::summarise(int8_best).median;
  const double int8_fraction = result.flops_per_prompt / engine::summarise(int8_ops).median;
  if (options.json) {
    const auto timing = [](const engine::TimingSummary& t) {
      return Json{{"mean", t.mean}, {"deviation", t.deviation}, {"median", t.median}, {"fastest", t.fastest}};
    };
    Json json = {
        {"model", options.model.model},
        {"backend", model.backend->description()},
        {"prompt_tokens", options.latency.prompt_tokens},
        {"output_tokens", options.latency.output_tokens},
        {"prefill_seconds", timing(result.prefill)},
        {"decode_seconds_per_token", timing(result.decode)},
        {"weight_bytes_per_token", result.bytes_per_token},
        {"planned_bytes", plan},
        {"peak_bytes", peak},
        {"load_seconds",
         {{"open", model.times.open}, {"plan", model.times.plan}, {"weights", model.times.weights}}}};
    if (on_cpu) {
      json["read_bytes_per_second"] = rates.read_bytes_per_second;
      json["int8_ops_per_second"] = int8_rate;
      json["int8_best_ops_per_second"] = int8_peak;
      json["decode_read_fraction"] = read / rates.read_bytes_per_second;
      json["prefill_int8_fraction"] = int8_fraction;
      json["prefill_int8_best_fraction"] = flops / int8_peak;
    }
    fmt::print("{}\n", json.dump(2));
    return interrupted() ? 1 : 0;
  }
  fmt::print(
      "{}",
      format_table(
          {{"test", "tokens/s", "median s", "mean s", "deviation"},
           {fmt::format("prefill {}", options.latency.prompt_tokens), fmt::format("{:.2f}", prompt_rate),
            fmt::format("{:.4f}", result.prefill.median), fmt::format("{:.4f}", result.prefill.mean),
            fmt::format("{:.4f}", result.prefill.deviation)},
           {fmt::format("decode {}", options.latency.output_tokens), fmt::format("{:.2f}", decode_rate),
            fmt::format("{:.4f}", result.decode.median), fmt::format("{:.4f}", result.decode.mean),
            fmt::format("{:.4f}", result.decode.deviation)}}));
  fmt::print("decode reads {} of weights per token: {:.1f} GB/s\n", format_bytes(result.bytes_per_token),
             read / 1e9);
  fmt::print(
      "prefill does {:.1f} Gop/s, counting the model's products for every token (of the last layer's output "
      "projection and MLP only the last token's are done) and no lm_head\n",
      flops / 1e9);
  if (on_cpu)
    fmt::print(
        "that is {:.1f} % of the {:.1f} GB/s that {} read, and {:.1f} % of the int8 dot-product rate {:.1f} "
        "Gop/s, sustained beside each prompt for as long ({:.1f} % of its best 3 ms, {:.1f} Gop/s)\n",
        100 * read / rates.read_bytes_per_second, rates.read_bytes_per_second / 1e9,
        rates.threads == 1 ? "one thread can" : fmt::format("{} threads can", rates.threads),
        100 * int8_fraction, int8_rate / 1e9, 100 * flops / int8_peak, int8_peak / 1e9);
  fmt::print("memory: planned {}, peak {}\n", format_bytes(plan), format_bytes(peak));
  return interrupted() ? 1 : 0;
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("bench", "Measure kernels and models");
  command->require_subcommand(1);
  add_bench_kernel(*command, action);
  add_bench_serve(*command, action);
  add_bench_throughput(*command, action);
  command->footer("Examples:\n  sabrewing bench kernel --json\n  sabrewing bench latency MODEL --threads 1");
  auto options = std::make_shared<BenchArguments>();
  CLI::App* latency =
      command->add_subcommand("latency", "Time prefill and decode of one sequence with random ids");
  options->model.add_to(*latency);
  add_flag_option(*latency, "--prompt-tokens", options->latency.prompt_tokens, "Length of the prompt")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
      ->capture_default_str();
  add_flag_option(*latency, "--output-tokens", options->latency.output_tokens, "Tokens to decode")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 24))
      ->capture_default_str();
  add_flag_option(*latency, "--repeats", options->latency.repeats, "Repetitions")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{10000}))
      ->capture_default_str();
  add_flag_option(*latency, "--seed", options->latency.seed, "Seed of the random ids")->capture_default_str();
  latency->add_flag("--json", options->json, "Print one JSON object");
  latency->footer(
      "Example:\n  sabrewing bench latency bench/configs/gpt-oss-20b.json --load-format dummy --threads 1");
  latency->callback([options, &action] { action = [options] { return bench_latency(*options); }; });
}

}  // namespace sabrewing::cli
