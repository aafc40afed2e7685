#include "cli/bench_throughput.h"

#include <fmt/core.h>

#include "cli/progress.h"
#include "core/json.h"
#include "engine/throughput.h"

namespace sabrewing::cli {
namespace {

struct BenchThroughputArguments {
  ModelOptions model;
  engine::ThroughputOptions throughput;
  std::int64_t max_num_seqs = 256;
  std::int64_t max_num_batched_tokens = 2048;
  bool json = false;
};

int bench_throughput(const BenchThroughputArguments& options) {
  engine::LoadedModel model = load_model(options.model, options.json);
  engine::EngineOptions engine_options;
  engine_options.max_context = options.model.max_context;
  engine_options.block_size = options.model.block_size;
  engine_options.max_num_seqs = options.max_num_seqs;
  engine_options.max_num_batched_tokens = options.max_num_batched_tokens;
  engine::Engine engine(
      {model.decoder.get(), model.tokenizer ? model.tokenizer.get() : nullptr, model.eos_ids},
      engine_options);
  catch_interrupt();
  engine::ThroughputResult result;
  {
    ProgressBar bar("requests");
    result = engine::measure_throughput(engine, options.throughput, [&](std::int64_t done) {
      bar.update(static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(options.throughput.requests),
                 "");
      return !interrupted();
    });
  }
  if (options.json) {
    fmt::print("{}\n", Json({{"model", options.model.model},
                             {"backend", model.backend->description()},
                             {"streams", options.throughput.streams},
                             {"num_requests", result.requests},
                             {"total_num_tokens", result.prompt_tokens + result.output_tokens},
                             {"elapsed_time", result.seconds},
                             {"requests_per_second", result.requests_per_second()},
                             {"output_tokens_per_second", result.output_tokens_per_second()},
                             {"tokens_per_second", result.total_tokens_per_second()}})
                           .dump(2));
  } else {
    fmt::print("{} requests, {} streams: {:.2f} requests/s, {:.2f} total tokens/s, {:.2f} output tokens/s\n",
               result.requests, options.throughput.streams, result.requests_per_second(),
               result.total_tokens_per_second(), result.output_tokens_per_second());
  }
  return interrupted() ? 1 : 0;
}

}  // namespace

void add_bench_throughput(CLI::App& bench, Action& action) {
  auto options = std::make_shared<BenchThroughputArguments>();
  CLI::App* command = bench.add_subcommand("throughput", "Time many requests at once with random ids");
  options->model.add_to(*command);
  const auto add = [&](const char* flag, std::int64_t& value, const char* help) {
    add_flag_option(*command, flag, value, help)
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
        ->capture_default_str();
  };
  add("--requests", options->throughput.requests, "Requests in all");
  add("--streams", options->throughput.streams, "Requests open at once");
  add("--prompt-tokens", options->throughput.prompt_tokens, "Length of each prompt");
  add("--output-tokens", options->throughput.output_tokens, "Tokens of each answer");
  add("--max-num-seqs", options->max_num_seqs, "Requests in one step");
  add("--max-num-batched-tokens", options->max_num_batched_tokens, "Tokens in one step");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->footer(
      "Example:\n  sabrewing bench throughput bench/configs/Qwen3-0.6B.json --load-format dummy --streams "
      "16");
  command->callback([options, &action] { action = [options] { return bench_throughput(*options); }; });
}

}  // namespace sabrewing::cli
