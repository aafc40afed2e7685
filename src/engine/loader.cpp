#include "engine/loader.h"

#include <algorithm>
#include <chrono>

#include "core/clock.h"
#include "core/error.h"
#include "core/log.h"
#include "core/printable.h"
#include "core/thread_pool.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/backend/cuda_backend.h"
#include "models/architecture.h"
#include "models/checkpoint_source.h"
#include "models/dummy_source.h"

namespace sabrewing::engine {
namespace {

/// `note` says why "auto" did not take the GPU.
std::unique_ptr<kernels::Backend> make_backend(const LoadOptions& options, std::string& note) {
  SABREWING_CHECK(options.device == "auto" || options.device == "cpu" || options.device == "cuda",
                  kInvalidArgument, "[device] unknown device \"{}\", expected auto, cpu or cuda",
                  options.device);
  if (options.device != "cpu") {
    try {
      return kernels::cuda::make_cuda_backend({0, options.accuracy});
    } catch (const Error& error) {
      if (options.device == "cuda") throw;
      // Without the places searched; `doctor` and device cuda say everything.
      const std::string reason = error.what();
      note = "no GPU: " + reason.substr(0, std::min(reason.find(": tried "), reason.find('\n')));
    }
  }
  kernels::cpu::CpuBackendOptions cpu;
  cpu.threads = options.threads;
  cpu.tier = options.cpu_tier;
  return kernels::cpu::make_cpu_backend(cpu);
}

/// What the user named wins, then the folder's own templates, then the format's renderer.
void choose_template(text::ModelChatTemplates& templates, const std::string& chosen,
                     const std::string& model_type) {
  const std::vector<std::string> builtin = text::ModelChatTemplates::builtin_names();
  if (std::find(builtin.begin(), builtin.end(), chosen) != builtin.end()) {
    templates.use_builtin(chosen);
  } else if (!chosen.empty()) {
    templates.use_file(chosen);
  } else if (const std::string own = text::ModelChatTemplates::builtin_for(model_type);
             templates.empty() && !own.empty()) {
    templates.use_builtin(own);
  }
}

}  // namespace

bool LoadedModel::is_eos(std::int32_t id) const {
  return std::find(eos_ids.begin(), eos_ids.end(), id) != eos_ids.end();
}

std::string LoadedModel::render_chat(const OrderedJson& messages, const OrderedJson& kwargs) const {
  SABREWING_CHECK(chat_templates.has_value(), kNotFound, "[chat] {} has no chat template", folder.string());
  text::ChatRequest request;
  request.messages = messages;
  request.add_generation_prompt = true;
  if (kwargs.is_object()) request.kwargs = kwargs;
  return chat_templates->render(request);
}

ChatPrompt LoadedModel::chat_prompt(const text::ChatRequest& request) const {
  SABREWING_CHECK(tokenizer != nullptr && chat_templates.has_value(), kNotFound,
                  "[chat] {} has no tokenizer or no chat template", folder.string());
  const std::vector<text::PromptPart> parts = chat_templates->render_parts(request, *tokenizer);
  return {text::join_parts(parts), text::encode_parts(*tokenizer, parts)};
}

text::ChatParserDefaults LoadedModel::chat_parsers() const {
  std::string format = decoder->spec().model_type;
  if (!chat_templates) return text::default_parsers(format, {});
  if (const std::string builtin = chat_templates->builtin_model_type(); !builtin.empty()) format = builtin;
  return text::default_parsers(format, chat_templates->source("default"));
}

LoadedModel open_model(const LoadOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  LoadedModel model;
  std::filesystem::path config = options.model / "config.json";
  model.folder = options.model;
  const bool bare_config = options.dummy && std::filesystem::is_regular_file(options.model);
  if (bare_config) {
    config = options.model;
    model.folder = options.model.parent_path();
  } else {
    SABREWING_CHECK(std::filesystem::exists(options.model), kNotFound, "[model] {} does not exist",
                    options.model.string());
    SABREWING_CHECK(std::filesystem::is_directory(options.model), kInvalidArgument,
                    "[model] {} is no folder; name the folder that holds config.json",
                    options.model.string());
  }
  models::DecoderSpec spec = models::read_spec(config);
  for (const std::string& field : spec.unknown_fields)
    log(LogLevel::kWarning, "{}: field {} is not known to this version and is ignored", config.string(),
        printable(field));
  if (!bare_config) {
    model.generation = read_generation_config(model.folder, spec.vocabulary);
    const bool has_tokenizer = std::filesystem::exists(model.folder / "tokenizer.json");
    if (has_tokenizer || !options.dummy) {
      model.tokenizer =
          std::make_unique<text::Tokenizer>(text::Tokenizer::from_file(model.folder / "tokenizer.json"));
      SABREWING_CHECK(model.tokenizer->vocab_size() <= spec.vocabulary, kCorrupt,
                      "[model] {}: the tokenizer has ids up to {}, config.json's vocab_size is {}",
                      model.folder.string(), model.tokenizer->vocab_size() - 1, spec.vocabulary);
      text::ModelChatTemplates templates = text::ModelChatTemplates::load(model.folder);
      choose_template(templates, options.chat_template, spec.model_type);
      if (!templates.empty()) model.chat_templates = std::move(templates);
    }
  }
  const auto& eos = model.generation.eos_ids.empty() ? spec.eos_ids : model.generation.eos_ids;
  for (const std::int64_t id : eos) model.eos_ids.push_back(static_cast<std::int32_t>(id));
  if (options.dummy)
    model.source = std::make_unique<models::DummySource>(
        options.dummy_seed, options.threads > 0 ? options.threads : available_processors());
  else
    model.source = std::make_unique<models::CheckpointSource>(model.folder);
  model.times.open = seconds_since(start);

  const auto plan_start = std::chrono::steady_clock::now();
  model.backend = make_backend(options, model.device_note);
  model.decoder = std::make_unique<models::Decoder>(std::move(spec), *model.backend, options.accuracy);
  model.modules = model.decoder->plan_modules(*model.source);
  model.times.plan = seconds_since(plan_start);
  return model;
}

void load_weights(LoadedModel& model, const LoadOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  model.decoder->load(*model.source, options.progress);
  model.source.reset();
  model.times.weights = seconds_since(start);
}

}  // namespace sabrewing::engine
