#include "engine/generation_config.h"

#include "core/mapped_file.h"
#include "models/config_reader.h"

namespace sabrewing::engine {

GenerationConfig read_generation_config(const std::filesystem::path& folder, std::int64_t vocabulary) {
  const std::filesystem::path file = folder / "generation_config.json";
  if (!std::filesystem::exists(file)) return {};
  return parse_generation_config(read_text_file(file, std::size_t{1} << 20), file.string(), vocabulary);
}

GenerationConfig parse_generation_config(std::string_view text, const std::string& where,
                                         std::int64_t vocabulary) {
  GenerationConfig config;
  const Json json = parse_json(text, where);
  models::ConfigReader fields(json, where);
  const auto number = [&](const char* key, double low, double high) -> std::optional<double> {
    if (fields.find(key) == nullptr) return std::nullopt;
    return fields.number(key, low, high);
  };
  config.temperature = number("temperature", 0, 1e6);
  config.top_p = number("top_p", 0, 1);
  config.min_p = number("min_p", 0, 1);
  config.repetition_penalty = number("repetition_penalty", 1e-6, 1e6);
  if (fields.find("top_k") != nullptr) config.top_k = fields.integer("top_k", 0, std::int64_t{1} << 31);
  // The format's default is greedy: other sampling fields count only with do_sample.
  if (!fields.boolean_or("do_sample", false)) config.temperature = 0;
  config.eos_ids = fields.integers("eos_token_id", 0, vocabulary - 1);
  return config;
}

}  // namespace sabrewing::engine
