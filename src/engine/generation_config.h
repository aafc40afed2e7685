#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sabrewing::engine {

/// Sampling defaults and end tokens of a model folder's generation_config.json; absent fields are empty.
struct GenerationConfig {
  std::optional<double> temperature;  ///< 0 when the file says do_sample: false
  std::optional<std::int64_t> top_k;
  std::optional<double> top_p;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::vector<std::int64_t> eos_ids;
};

/// Reads `folder`/generation_config.json; every field empty when there is none. Errors name file and field.
GenerationConfig read_generation_config(const std::filesystem::path& folder, std::int64_t vocabulary);
/// The same from its text; `where` names it in errors.
GenerationConfig parse_generation_config(std::string_view text, const std::string& where,
                                         std::int64_t vocabulary);

}  // namespace sabrewing::engine
