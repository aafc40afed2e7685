#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "engine/loader.h"
#include "engine/runner.h"

namespace sabrewing::engine {

/// One case of a reference file: a prompt with the greedy continuation and logits of an independent
/// FP32 implementation (models/README.md describes the file).
struct ReferenceCase {
  std::string name;  ///< "cases[3]"
  std::string prompt;
  std::vector<std::int32_t> prompt_ids;
  std::vector<std::int32_t> greedy_ids;
  std::string greedy_text;
  std::vector<float> last_logits;
  std::vector<float> margins;  ///< lead of the first over the second logit at each step; may be empty
  std::optional<OrderedJson> messages;
  OrderedJson template_kwargs;
};

struct ReferenceFile {
  std::vector<ReferenceCase> cases;
  bool ignore_eos = false;
};

/// Errors name the file and the field.
ReferenceFile read_reference(const std::filesystem::path& file);

/// How far a model may be from its reference.
struct VerifyBounds {
  float margin = 1e-3F;                 ///< a different token is tolerated below this lead
  std::optional<float> logits = 2e-3F;  ///< largest difference of the logits after the prompt; empty: any
  static VerifyBounds exact() { return {1e-3F, 2e-3F}; }
  static VerifyBounds standard() { return {0.1F, std::nullopt}; }
};

/// How far BF16 activations move the logits of a case. A rounding changes a value by at most half a unit in
/// the last place, uniformly: 2^-8 / sqrt(3) of it in the root mean square. On the way through a layer a
/// value is rounded at most ten times (norm, qkv, q/k norm, rotary embedding, attention, output; norm, gate
/// and up, activation, down), then by the last norm. Taken as independent, and as passed on whole although
/// the FP32 residual carries most of the value past them, they add up to sqrt(10 L + 1) of one rounding. Six
/// standard deviations of the logits' root mean square leave no chance to any of the vocabulary.
float bf16_logit_bound(const ReferenceCase& reference, std::size_t layers);

struct CaseResult {
  std::string name;
  std::vector<std::string> failures;  ///< one sentence each
  float logit_difference = 0;
  std::int64_t tokens = 0;
  std::int64_t top_choices = 0;  ///< reference tokens that were the first choice
  std::int64_t ties = 0;         ///< different tokens below the margin
};

/// Runs one case, fed along the reference's ids. Text checks are left out where the model has no tokenizer.
CaseResult verify_case(LoadedModel& model, Runner& runner, const ReferenceCase& reference, bool ignore_eos,
                       const VerifyBounds& bounds);

}  // namespace sabrewing::engine
