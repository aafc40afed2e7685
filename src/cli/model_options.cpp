#include <fmt/core.h>

#include <atomic>
#include <csignal>
#include <cstdio>

#include "cli/command.h"
#include "cli/progress.h"

namespace sabrewing::cli {
namespace {

std::atomic<bool> g_interrupted{false};

void on_interrupt(int) {
  if (g_interrupted.exchange(true)) std::_Exit(1);
}

}  // namespace

std::string environment_name(const std::string& flag) {
  std::string name = "SABREWING_";
  for (const char c : flag.substr(flag.find_first_not_of('-')))
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

bool interrupted() { return g_interrupted.load(); }

void catch_interrupt() { std::signal(SIGINT, on_interrupt); }

void clear_interrupt() { g_interrupted.store(false); }

void ModelOptions::add_to(CLI::App& app) {
  app.add_option("MODEL", model, "Folder with config.json, tokenizer.json and *.safetensors")->required();
  add_flag_option(app, "--device", device, "Where to run")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  add_flag_option(app, "--precision", precision,
                  "exact: FP32 arithmetic on dequantized weights; default: fast kernels")
      ->check(CLI::IsMember({"exact", "default"}))
      ->capture_default_str();
  add_flag_option(app, "--load-format", load_format,
                  "dummy: random weights (MODEL may then be a config.json)")
      ->check(CLI::IsMember({"auto", "dummy"}))
      ->capture_default_str();
  add_flag_option(app, "--dummy-seed", dummy_seed, "Seed of --load-format dummy")->capture_default_str();
  add_flag_option(app, "--threads", threads, "CPU threads; 0: every available processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_flag_option(app, "--cpu-tier", cpu_tier, "Force a kernel tier: scalar, avx2 or avx512");
  add_flag_option(app, "--max-model-len", max_context,
                  "Longest context in tokens; 0: the model's, at most 32768")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 30))
      ->capture_default_str();
  add_flag_option(app, "--block-size", block_size, "Tokens per cache block")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1024}))
      ->capture_default_str();
  add_flag_option(app, "--prefill-chunk", prefill_chunk, "Prompt tokens per step")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{65536}))
      ->capture_default_str();
}

engine::LoadOptions ModelOptions::load_options() const {
  engine::LoadOptions options;
  options.model = model;
  options.device = device;
  options.accuracy = precision == "exact" ? kernels::Accuracy::kExact : kernels::Accuracy::kDefault;
  options.threads = threads;
  options.cpu_tier = cpu_tier;
  options.dummy = load_format == "dummy";
  options.dummy_seed = dummy_seed;
  options.chat_template = chat_template;
  return options;
}

engine::GeneratorOptions ModelOptions::generator_options() const {
  return {max_context, block_size, prefill_chunk};
}

void load_weights(engine::LoadedModel& model, const ModelOptions& options, bool quiet) {
  engine::LoadOptions load = options.load_options();
  std::size_t total = 0;
  for (const models::ModuleReport& module : model.modules) total += module.bytes;
  {
    ProgressBar bar("loading " + model.decoder->spec().model_type);
    load.progress = [&](std::size_t done) { bar.update(done, total, format_bytes(done)); };
    engine::load_weights(model, load);
  }
  if (!quiet)
    fmt::print(stderr, "loaded {} ({}) on {}{}: open {:.2f} s, plan {:.2f} s, weights {:.2f} s\n",
               model.decoder->spec().model_type, format_bytes(model.decoder->weight_bytes()),
               model.backend->description(), model.device_note.empty() ? "" : " (" + model.device_note + ")",
               model.times.open, model.times.plan, model.times.weights);
}

engine::LoadedModel load_model(const ModelOptions& options, bool quiet) {
  engine::LoadedModel model = engine::open_model(options.load_options());
  load_weights(model, options, quiet);
  return model;
}

}  // namespace sabrewing::cli
