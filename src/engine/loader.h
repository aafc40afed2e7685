#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "engine/generation_config.h"
#include "kernels/backend.h"
#include "models/decoder.h"
#include "text/chat/parser.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace sabrewing::engine {

struct LoadOptions {
  /// A model folder; with `dummy` also a config.json file.
  std::filesystem::path model;
  std::string device = "auto";  ///< "cpu", "cuda", or "auto": a GPU when there is a usable one
  kernels::Accuracy accuracy = kernels::Accuracy::kDefault;
  int threads = 0;       ///< 0: every processor this process may use
  std::string cpu_tier;  ///< empty: the best the machine has
  /// A Jinja file or the name of a built-in renderer, instead of what the folder holds.
  std::string chat_template;
  bool dummy = false;  ///< random weights in the model's own formats
  std::uint64_t dummy_seed = 0;
  models::LoadProgress progress;
};

/// Seconds spent in each phase of loading.
struct LoadTimes {
  double open = 0;     ///< config, headers, tokenizer
  double plan = 0;     ///< formats and kernels
  double weights = 0;  ///< reading and packing
};

/// A conversation ready to be continued.
struct ChatPrompt {
  std::string text;
  std::vector<std::int32_t> ids;
};

/// A model ready to run. Only `decoder` runs; everything else is immutable.
struct LoadedModel {
  std::filesystem::path folder;
  std::unique_ptr<kernels::Backend> backend;
  std::unique_ptr<models::TensorSource> source;  ///< until the weights are loaded
  std::unique_ptr<models::Decoder> decoder;
  std::unique_ptr<text::Tokenizer> tokenizer;  ///< null: the folder has none (dummy weights only)
  /// The folder's templates; where it has none the format's built-in renderer, or nothing.
  std::optional<text::ModelChatTemplates> chat_templates;
  GenerationConfig generation;
  std::vector<std::int32_t> eos_ids;
  std::vector<models::ModuleReport> modules;
  std::string device_note;  ///< why device "auto" is not the GPU; empty when it is, or was not asked for
  LoadTimes times;

  bool is_eos(std::int32_t id) const;
  /// The messages through the chat template with the generation prompt. `kwargs` are further variables.
  std::string render_chat(const OrderedJson& messages, const OrderedJson& kwargs) const;
  /// The conversation as text and ids. Throws `Error{kNotFound}` without tokenizer or template.
  ChatPrompt chat_prompt(const text::ChatRequest& request) const;
  /// The parsers of answers that fit the model.
  text::ChatParserDefaults chat_parsers() const;
};

/// Opens everything but the weights: configuration, tokenizer, template, tensor headers; plans every
/// module. Errors name the file and the field.
LoadedModel open_model(const LoadOptions& options);

/// Packs the weights of an opened model.
void load_weights(LoadedModel& model, const LoadOptions& options);

}  // namespace sabrewing::engine
