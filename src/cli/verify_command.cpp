#include <fmt/core.h>

#include "cli/command.h"
#include "cli/progress.h"
#include "core/json.h"
#include "engine/verify.h"

namespace sabrewing::cli {
namespace {

struct VerifyArguments {
  ModelOptions model;
  std::string reference;
  bool json = false;
};

int verify(const VerifyArguments& options) {
  const engine::ReferenceFile reference = engine::read_reference(options.reference);
  engine::LoadedModel model = load_model(options.model, options.json);
  engine::Generator generator(model, options.model.generator_options());
  const bool exact = options.model.precision == "exact";
  engine::VerifyBounds bounds = exact ? engine::VerifyBounds::exact() : engine::VerifyBounds::standard();
  const bool bf16 = model.backend->activation_dtype() == DType::kBF16;

  std::int64_t tokens = 0;
  std::int64_t top_choices = 0;
  std::int64_t ties = 0;
  std::size_t failed = 0;
  float difference = 0;
  float share_of_bound = 0;
  Json rows = Json::array();
  std::vector<std::vector<std::string>> table{
      {"case", "tokens", "first choice", "ties", "logit difference", "result"}};
  ProgressBar bar("verifying");
  for (std::size_t i = 0; i < reference.cases.size(); ++i) {
    if (bf16)
      bounds.logits = engine::bf16_logit_bound(reference.cases[i], model.decoder->spec().layers.size());
    const engine::CaseResult result =
        engine::verify_case(model, generator.runner(), reference.cases[i], reference.ignore_eos, bounds);
    tokens += result.tokens;
    top_choices += result.top_choices;
    ties += result.ties;
    difference = std::max(difference, result.logit_difference);
    if (bounds.logits.has_value())
      share_of_bound = std::max(share_of_bound, result.logit_difference / *bounds.logits);
    failed += result.failures.empty() ? 0 : 1;
    rows.push_back({{"case", result.name},
                    {"tokens", result.tokens},
                    {"top_choices", result.top_choices},
                    {"ties", result.ties},
                    {"logit_difference", result.logit_difference},
                    {"logit_bound", bounds.logits ? Json(*bounds.logits) : Json()},
                    {"failures", result.failures}});
    table.push_back({result.name, std::to_string(result.tokens), std::to_string(result.top_choices),
                     std::to_string(result.ties), fmt::format("{:.2e}", result.logit_difference),
                     result.failures.empty() ? "ok" : result.failures.front()});
    bar.update(i + 1, reference.cases.size(), "");
  }
  const double share = tokens > 0 ? static_cast<double>(top_choices) / static_cast<double>(tokens) : 0;
  if (options.json) {
    fmt::print("{}\n", Json({{"model", options.model.model},
                             {"precision", options.model.precision},
                             {"cases", rows},
                             {"tokens", tokens},
                             {"top_choice_share", share},
                             {"ties", ties},
                             {"logit_difference", difference},
                             {"logit_bound_share", bounds.logits ? Json(share_of_bound) : Json()},
                             {"failed", failed}})
                           .dump(2));
  } else {
    fmt::print("{}", format_table(table));
    fmt::print(
        "{} of {} cases passed; {} of {} reference tokens are the first choice ({:.2f} %), {} tolerated "
        "ties; "
        "largest logit difference {:.2e}{}\n",
        reference.cases.size() - failed, reference.cases.size(), top_choices, tokens, 100 * share, ties,
        difference,
        bf16            ? fmt::format(" ({:.0f} % of what BF16 explains)", 100 * share_of_bound)
        : bounds.logits ? fmt::format(" (bound {:.0e})", *bounds.logits)
                        : "");
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto options = std::make_shared<VerifyArguments>();
  CLI::App* command =
      app.add_subcommand("verify", "Compare a model with an independent reference's logits and tokens");
  options->model.add_to(*command);
  add_flag_option(*command, "--reference", options->reference,
                  "File in the layout of models/*/reference.json")
      ->required();
  command->add_flag("--json", options->json, "Print one JSON object");
  command->footer(
      "Example:\n  sabrewing verify models/mini-gpt-oss --reference models/mini-gpt-oss/reference.json "
      "--precision exact\n\n"
      "exact: a different token fails unless the reference's lead is below 1e-3; logits within 2e-3.\n"
      "default: that lead is 0.1; logits are within what BF16 activations explain on a GPU, printed on a "
      "CPU.\n"
      "Exit code 1 when a case fails.");
  command->callback([options, &action] { action = [options] { return verify(*options); }; });
}

}  // namespace sabrewing::cli
