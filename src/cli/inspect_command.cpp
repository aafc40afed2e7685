#include <fmt/core.h>

#include "cli/command.h"
#include "cli/progress.h"
#include "core/json.h"

namespace sabrewing::cli {
namespace {

struct InspectArguments {
  ModelOptions model;
  bool json = false;
};

int inspect(const InspectArguments& options) {
  const engine::LoadedModel model = engine::open_model(options.model.load_options());
  const models::DecoderSpec& spec = model.decoder->spec();
  const engine::GeneratorOptions generator = options.model.generator_options();
  const engine::MemoryPlan memory = engine::Generator::plan_memory(model, generator);
  std::int64_t windows = 0;
  std::int64_t sparse = 0;
  for (const models::LayerSpec& layer : spec.layers) {
    windows += layer.window > 0 ? 1 : 0;
    sparse += layer.sparse ? 1 : 0;
  }

  if (options.json) {
    Json modules = Json::array();
    for (const models::ModuleReport& m : model.modules)
      modules.push_back({{"group", m.group},
                         {"format", m.format},
                         {"kernel", m.kernel},
                         {"matrices", m.count},
                         {"bytes", m.bytes}});
    fmt::print("{}\n", Json({{"architecture", spec.model_type},
                             {"layers", spec.layers.size()},
                             {"hidden", spec.hidden},
                             {"vocabulary", spec.vocabulary},
                             {"q_heads", spec.q_heads},
                             {"kv_heads", spec.kv_heads},
                             {"head_dim", spec.head_dim},
                             {"experts", spec.experts},
                             {"top_k", spec.top_k},
                             {"rope", spec.rope.description},
                             {"max_positions", spec.max_positions},
                             {"backend", model.backend->description()},
                             {"modules", modules},
                             {"weight_bytes", memory.weights},
                             {"cache_bytes", memory.cache},
                             {"workspace_bytes", memory.workspace},
                             {"staging_bytes", memory.staging},
                             {"planned_bytes", memory.total()}})
                           .dump(2));
    return 0;
  }
  fmt::print("architecture  {}: {} layers, hidden {}, vocabulary {}{}\n", spec.model_type, spec.layers.size(),
             spec.hidden, spec.vocabulary, spec.tied_embeddings ? ", tied embeddings" : "");
  fmt::print("attention     {} query and {} key/value heads of {}{}{}, rope {}\n", spec.q_heads,
             spec.kv_heads, spec.head_dim, spec.sinks ? ", sinks" : "",
             windows > 0 ? fmt::format(", window on {} layers", windows) : "", spec.rope.description);
  if (sparse > 0)
    fmt::print("experts       {} on {} layers, top {}, width {}\n", spec.experts, sparse, spec.top_k,
               spec.expert_intermediate);
  fmt::print("tokenizer     {}; chat template {}\n",
             model.tokenizer ? fmt::format("{} ids", model.tokenizer->vocab_size()) : "none",
             model.chat_templates ? "yes" : "none");
  fmt::print("backend       {}{}\n\n", model.backend->description(),
             model.device_note.empty() ? "" : " (" + model.device_note + ")");
  std::vector<std::vector<std::string>> table{{"module", "matrices", "format", "bytes", "kernel"}};
  for (const models::ModuleReport& m : model.modules)
    table.push_back({m.group, std::to_string(m.count), m.format, format_bytes(m.bytes), m.kernel});
  fmt::print("{}\n", format_table(table));
  fmt::print("memory        weights {}, cache {} for {} tokens, scratch {}, staging {}: {} in all\n",
             format_bytes(memory.weights), format_bytes(memory.cache),
             engine::Generator::context_tokens(model, generator), format_bytes(memory.workspace),
             format_bytes(memory.staging), format_bytes(memory.total()));
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto options = std::make_shared<InspectArguments>();
  CLI::App* command =
      app.add_subcommand("inspect", "Show architecture, formats, kernels and memory without reading weights");
  options->model.add_to(*command);
  command->add_flag("--json", options->json, "Print one JSON object");
  command->footer(
      "Examples:\n  sabrewing inspect models/mini-gpt-oss\n"
      "  sabrewing inspect bench/configs/gpt-oss-20b.json --load-format dummy");
  command->callback([options, &action] { action = [options] { return inspect(*options); }; });
}

}  // namespace sabrewing::cli
