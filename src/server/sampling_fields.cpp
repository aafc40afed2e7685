#include "server/sampling_fields.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "server/errors.h"
#include "text/utf8.h"

namespace sabrewing::server {
namespace {

constexpr std::size_t kSaltBytes = 256;

void read_seed(Fields& fields, const Service& service, engine::SamplingParams& params) {
  params.seed = service.options().seed;
  const OrderedJson* seed = fields.find("seed");
  if (seed == nullptr) return;
  if (!seed->is_number_integer()) fields.fail("seed", "an integer of 64 bits expected");
  params.seed = seed->is_number_unsigned() ? seed->get<std::uint64_t>()
                                           : static_cast<std::uint64_t>(seed->get<std::int64_t>());
}

void read_logit_bias(Fields& fields, const Service& service, engine::SamplingParams& params) {
  const OrderedJson* bias = fields.object("logit_bias");
  if (bias == nullptr) return;
  for (const auto& [key, value] : bias->items()) {
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 ||
        id >= service.engine().vocabulary())
      fields.fail("logit_bias", fmt::format("{} is no token id below {}", text::one_line("\"" + key + "\""),
                                            service.engine().vocabulary()));
    if (!value.is_number()) fields.fail("logit_bias", fmt::format("a number expected for id {}", id));
    params.logit_bias.emplace_back(id, value.get<double>());
  }
}

/// A bad word is banned at the start of a text and after a space.
void read_bad_words(Fields& fields, const Service& service, engine::SamplingParams& params) {
  const ServiceOptions& options = service.options();
  const auto words = fields.strings("bad_words", options.max_listed_ids, options.max_stop_bytes);
  if (!words) return;
  const text::Tokenizer& tokenizer = service.tokenizer("bad_words");
  for (const std::string& word : *words) {
    if (word.empty()) fields.fail("bad_words", "an empty string");
    std::vector<std::int32_t> plain = tokenizer.encode(word);
    std::vector<std::int32_t> spaced = tokenizer.encode(" " + word);
    if (plain.empty()) continue;
    // Where the space is a token of its own, what follows it is the plain form.
    const bool covered =
        spaced.size() >= plain.size() && std::equal(plain.rbegin(), plain.rend(), spaced.rbegin());
    params.bad_words.push_back(std::move(plain));
    if (!covered) params.bad_words.push_back(std::move(spaced));
  }
}

void read_stops(Fields& fields, const Service& service, engine::SamplingParams& params) {
  const ServiceOptions& options = service.options();
  if (auto stop = fields.strings("stop", options.max_stop_strings, options.max_stop_bytes)) {
    for (const std::string& text : *stop)
      if (text.empty()) fields.fail("stop", "an empty string");
    if (!stop->empty()) service.tokenizer("stop");
    params.stop = std::move(*stop);
  }
  if (auto ids = fields.ids("stop_token_ids", options.max_listed_ids))
    params.stop_token_ids = std::move(*ids);
}

}  // namespace

void read_sampling(Fields& fields, const Service& service, GenerationRequest& request) {
  const engine::GenerationConfig& defaults = service.model().generation;
  const ServiceOptions& options = service.options();
  engine::SamplingParams& params = request.common.sampling;
  params.temperature = fields.number("temperature").value_or(defaults.temperature.value_or(1));
  params.top_p = fields.number("top_p").value_or(defaults.top_p.value_or(1));
  params.top_k = fields.integer("top_k", -1, std::numeric_limits<std::int64_t>::max())
                     .value_or(defaults.top_k.value_or(0));
  params.min_p = fields.number("min_p").value_or(defaults.min_p.value_or(0));
  params.repetition_penalty =
      fields.number("repetition_penalty").value_or(defaults.repetition_penalty.value_or(1));
  params.presence_penalty = fields.number("presence_penalty").value_or(0);
  params.frequency_penalty = fields.number("frequency_penalty").value_or(0);
  params.min_tokens = fields.integer("min_tokens", 0, std::numeric_limits<std::int64_t>::max()).value_or(0);
  params.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  read_seed(fields, service, params);
  read_logit_bias(fields, service, params);
  read_bad_words(fields, service, params);
  read_stops(fields, service, params);
  if (auto ids = fields.ids("allowed_token_ids", static_cast<std::size_t>(service.engine().vocabulary()))) {
    if (ids->empty()) fields.fail("allowed_token_ids", "the list is empty");
    params.allowed_token_ids = std::move(*ids);
  }

  request.choices = fields.integer("n", 1, options.max_choices).value_or(1);
  const auto priority = fields.integer("priority", std::numeric_limits<std::int32_t>::min(),
                                       std::numeric_limits<std::int32_t>::max());
  request.common.priority = static_cast<std::int32_t>(priority.value_or(0));
  request.common.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  request.common.cache_salt = fields.string("cache_salt", kSaltBytes).value_or("");

  if (const auto best = fields.integer("best_of", 1, options.max_choices); best && *best != request.choices)
    fields.fail("best_of", "is not supported unless it equals n", "unsupported");
  if (!fields.boolean("spaces_between_special_tokens").value_or(true))
    fields.fail("spaces_between_special_tokens", "false is not supported", "unsupported");
  if (!fields.boolean("detokenize").value_or(true))
    fields.fail("detokenize", "false is not supported; see return_token_ids", "unsupported");
  fields.refuse("use_beam_search", "answers are sampled or greedy");
  fields.refuse("logits_processors", "requests carry no code");
  fields.refuse("prompt_embeds", "send text or token ids");
  fields.refuse("mm_processor_kwargs", "this server takes text only");
  fields.refuse("kv_transfer_params", "this server does not move caches");
  fields.refuse("vllm_xargs", "no extension reads it");
  fields.ignore({"user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
                 "prompt_cache_retention", "length_penalty", "early_stopping"});
}

void check_sampling(Fields& fields, const Service& service, const engine::SamplingParams& params) {
  const auto in_vocabulary = [&](const char* name, const std::vector<std::int32_t>& ids) {
    for (const std::int32_t id : ids)
      if (id >= service.engine().vocabulary())
        fields.fail(name,
                    fmt::format("token id {}: 0 to {} expected", id, service.engine().vocabulary() - 1));
  };
  in_vocabulary("stop_token_ids", params.stop_token_ids);
  in_vocabulary("allowed_token_ids", params.allowed_token_ids);
  try {
    params.validate();
  } catch (const Error& error) {
    // "[sampling] top_p is 2: ..." names the field first.
    ApiError refusal = to_api_error(error);
    refusal.param = fields.param(refusal.message.substr(0, refusal.message.find(' ')));
    throw refusal;
  }
}

void truncate_prompt(Fields& fields, const Service& service, std::vector<std::int32_t>& prompt) {
  const auto limit = fields.integer("truncate_prompt_tokens", -1, service.engine().max_context() - 1);
  if (!limit) return;
  const auto keep = static_cast<std::size_t>(*limit == -1 ? service.engine().max_context() - 1 : *limit);
  if (prompt.size() > keep) prompt.erase(prompt.begin(), prompt.end() - static_cast<std::ptrdiff_t>(keep));
}

StreamOptions read_stream_options(Fields& fields) {
  StreamOptions result;
  result.stream = fields.boolean("stream").value_or(false);
  const OrderedJson* object = fields.object("stream_options");
  if (object == nullptr) return result;
  if (!result.stream) fields.fail("stream_options", "only with stream: true");
  Fields options(*object, "stream_options.");
  result.include_usage = options.boolean("include_usage").value_or(false);
  result.continuous_usage = options.boolean("continuous_usage_stats").value_or(false) && result.include_usage;
  return result;
}

OutputOptions read_output_options(Fields& fields) {
  OutputOptions result;
  result.tokens_as_ids = fields.boolean("return_tokens_as_token_ids").value_or(false);
  result.return_ids = fields.boolean("return_token_ids").value_or(false);
  result.stop_in_output = fields.boolean("include_stop_str_in_output").value_or(false);
  return result;
}

}  // namespace sabrewing::server
