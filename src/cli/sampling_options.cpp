#include "cli/command.h"

namespace sabrewing::cli {

void SamplingOptions::add_to(CLI::App& command) {
  app = &command;
  add_flag_option(command, "--max-tokens", max_tokens, "Longest answer in tokens")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->capture_default_str();
  add_flag_option(command, "--temperature", given.temperature, "0 is greedy");
  add_flag_option(command, "--top-k", given.top_k, "Only the k likeliest tokens; 0: all");
  add_flag_option(command, "--top-p", given.top_p,
                  "Only the likeliest tokens that together reach this probability");
  add_flag_option(command, "--min-p", given.min_p,
                  "Only tokens with this share of the likeliest one's probability");
  add_flag_option(command, "--repetition-penalty", given.repetition_penalty,
                  "Above 1: against tokens of prompt and answer");
  add_flag_option(command, "--presence-penalty", given.presence_penalty,
                  "Subtracted from logits of tokens in the answer");
  add_flag_option(command, "--frequency-penalty", given.frequency_penalty, "The same for each occurrence");
  add_flag_option(command, "--seed", seed, "Equal seeds give equal answers");
  add_flag_option(command, "--logprobs", logprobs,
                  "With --json: log-probabilities of the chosen and the N likeliest tokens");
  add_flag_option(command, "--stop", given.stop, "Text that ends the answer; may be repeated");
  add_flag_option(command, "--stop-token-ids", given.stop_token_ids, "Token ids that end the answer");
  command.add_flag("--ignore-eos", given.ignore_eos, "Go on after an end token")
      ->envname(environment_name("--ignore-eos"));
}

engine::SamplingParams SamplingOptions::resolve(const engine::LoadedModel& model) const {
  const auto is_given = [this](const char* flag) { return app->get_option(flag)->count() > 0; };
  const engine::GenerationConfig& defaults = model.generation;
  engine::SamplingParams params = given;
  if (!is_given("--temperature")) params.temperature = defaults.temperature.value_or(0.0);
  if (!is_given("--top-k")) params.top_k = defaults.top_k.value_or(params.top_k);
  if (!is_given("--top-p")) params.top_p = defaults.top_p.value_or(params.top_p);
  if (!is_given("--min-p")) params.min_p = defaults.min_p.value_or(params.min_p);
  if (!is_given("--repetition-penalty"))
    params.repetition_penalty = defaults.repetition_penalty.value_or(params.repetition_penalty);
  if (is_given("--seed")) params.seed = seed;
  if (is_given("--logprobs")) params.logprobs = logprobs;
  params.max_tokens = max_tokens;
  params.validate();
  return params;
}

}  // namespace sabrewing::cli
