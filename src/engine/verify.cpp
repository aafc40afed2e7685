#include "engine/verify.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/mapped_file.h"

namespace sabrewing::engine {
namespace {

constexpr std::size_t kReferenceFileLimit = std::size_t{256} << 20;

template <typename T>
std::vector<T> numbers(const OrderedJson& object, const char* key, const std::string& where, bool required) {
  std::vector<T> values;
  const auto field = object.find(key);
  if (field == object.end()) {
    SABREWING_CHECK(!required, kCorrupt, "[verify] {}: field \"{}\" is missing", where, key);
    return values;
  }
  SABREWING_CHECK(field->is_array(), kCorrupt, "[verify] {}: field \"{}\" is no list", where, key);
  for (const auto& item : *field) {
    const bool right = std::is_integral_v<T> ? item.is_number_integer() : item.is_number();
    SABREWING_CHECK(right, kCorrupt, "[verify] {}: field \"{}\" holds {}", where, key,
                    item.dump().substr(0, 40));
    values.push_back(item.get<T>());
  }
  return values;
}

std::string text(const OrderedJson& object, const char* key, const std::string& where) {
  const auto field = object.find(key);
  SABREWING_CHECK(field != object.end() && field->is_string(), kCorrupt,
                  "[verify] {}: field \"{}\" is missing or no string", where, key);
  return field->get<std::string>();
}

/// Where two texts part, for a one-line message.
std::string difference(const std::string& got, const std::string& expected) {
  std::size_t at = 0;
  while (at < got.size() && at < expected.size() && got[at] == expected[at]) ++at;
  const auto piece = [at](const std::string& t) {
    return OrderedJson(t.substr(at, 24)).dump(-1, ' ', true, OrderedJson::error_handler_t::replace);
  };
  return fmt::format("differ at byte {}: {} instead of {}", at, piece(got), piece(expected));
}

void check_text(const LoadedModel& model, const ReferenceCase& reference, CaseResult& result) {
  if (model.tokenizer == nullptr) return;
  if (reference.messages.has_value() && model.chat_templates.has_value()) {
    const std::string rendered = model.render_chat(*reference.messages, reference.template_kwargs);
    if (rendered != reference.prompt)
      result.failures.push_back("the rendered template and \"prompt\" " +
                                difference(rendered, reference.prompt));
  }
  if (model.tokenizer->encode(reference.prompt) != reference.prompt_ids)
    result.failures.emplace_back("encode(\"prompt\") is not \"prompt_ids\"");
  const std::string decoded = model.tokenizer->decode(reference.greedy_ids, false);
  if (decoded != reference.greedy_text)
    result.failures.push_back("decode(\"greedy_ids\") and \"greedy_text\" " +
                              difference(decoded, reference.greedy_text));
}

}  // namespace

ReferenceFile read_reference(const std::filesystem::path& file) {
  const std::string where = file.string();
  const OrderedJson json = parse_ordered_json(read_text_file(file, kReferenceFileLimit), where);
  SABREWING_CHECK(json.is_object(), kCorrupt, "[verify] {}: expected a JSON object", where);
  ReferenceFile reference;
  if (const auto field = json.find("ignore_eos"); field != json.end()) {
    SABREWING_CHECK(field->is_boolean(), kCorrupt, "[verify] {}: field \"ignore_eos\" is no boolean", where);
    reference.ignore_eos = field->get<bool>();
  }
  for (const char* list : {"cases", "cases_without_thinking"}) {
    const auto cases = json.find(list);
    if (cases == json.end()) continue;
    SABREWING_CHECK(cases->is_array(), kCorrupt, "[verify] {}: field \"{}\" is no list", where, list);
    for (const auto& item : *cases) {
      ReferenceCase one;
      one.name = fmt::format("{}[{}]", list, &item - &cases->front());
      const std::string here = where + ": " + one.name;
      SABREWING_CHECK(item.is_object(), kCorrupt, "[verify] {}: expected an object", here);
      if (item.contains("prompt")) {
        one.prompt = text(item, "prompt", here);
        one.greedy_text = text(item, "greedy_text", here);
      }
      one.prompt_ids = numbers<std::int32_t>(item, "prompt_ids", here, true);
      one.greedy_ids = numbers<std::int32_t>(item, "greedy_ids", here, true);
      one.last_logits = numbers<float>(item, "last_logits", here, true);
      one.margins = numbers<float>(item, "margins", here, false);
      SABREWING_CHECK(one.margins.empty() || one.margins.size() >= one.greedy_ids.size(), kCorrupt,
                      "[verify] {}: {} margins for {} greedy ids", here, one.margins.size(),
                      one.greedy_ids.size());
      if (const auto messages = item.find("messages"); messages != item.end() && !messages->is_null())
        one.messages = *messages;
      one.template_kwargs = item.value("template_kwargs", OrderedJson::object());
      reference.cases.push_back(std::move(one));
    }
  }
  SABREWING_CHECK(!reference.cases.empty(), kCorrupt, "[verify] {}: no cases", where);
  return reference;
}

float bf16_logit_bound(const ReferenceCase& reference, std::size_t layers) {
  double squares = 0;
  for (const double logit : reference.last_logits) squares += logit * logit;
  const double size = std::sqrt(squares / static_cast<double>(reference.last_logits.size()));
  const double rounding = std::ldexp(1, -8) / std::sqrt(3.0);
  return static_cast<float>(6 * rounding * std::sqrt(10.0 * static_cast<double>(layers) + 1) * size);
}

CaseResult verify_case(LoadedModel& model, Runner& runner, const ReferenceCase& reference, bool ignore_eos,
                       const VerifyBounds& bounds) {
  CaseResult result;
  result.name = reference.name;
  if (!reference.prompt.empty()) check_text(model, reference, result);
  const auto vocabulary = static_cast<std::size_t>(model.decoder->spec().vocabulary);
  SABREWING_CHECK(!reference.prompt_ids.empty() && reference.last_logits.size() == vocabulary, kCorrupt,
                  "[verify] {}: {} prompt ids, {} logits for a vocabulary of {}", reference.name,
                  reference.prompt_ids.size(), reference.last_logits.size(), vocabulary);

  const auto total = static_cast<std::int64_t>(reference.prompt_ids.size() + reference.greedy_ids.size());
  std::vector<std::int32_t> blocks;
  SABREWING_CHECK(total <= runner.limits().max_context && runner.cache().extend(blocks, total),
                  kInvalidArgument, "[verify] {}: {} tokens exceed the context of {}", reference.name, total,
                  runner.limits().max_context);
  std::span<const float> logits;
  std::int64_t position = 0;
  const auto feed = [&](std::span<const std::int32_t> ids) {
    while (!ids.empty()) {
      const std::size_t count = std::min(ids.size(), static_cast<std::size_t>(runner.limits().max_tokens));
      StepSequence step;
      step.tokens = ids.first(count);
      step.first_position = position;
      step.blocks = blocks;
      step.last_logits = count == ids.size();
      logits = runner.step({&step, 1});
      position += static_cast<std::int64_t>(count);
      ids = ids.subspan(count);
    }
  };
  feed(reference.prompt_ids);
  for (std::size_t i = 0; i < vocabulary; ++i) {
    const float distance = std::abs(logits[i] - reference.last_logits[i]);
    // A NaN must not pass as small.
    if (!(distance <= result.logit_difference)) result.logit_difference = distance;
  }
  if (bounds.logits.has_value() && !(result.logit_difference <= *bounds.logits))
    result.failures.push_back(fmt::format("logits after the prompt differ by {:.3g}, more than {:.3g}",
                                          result.logit_difference, *bounds.logits));

  for (std::size_t i = 0; i < reference.greedy_ids.size(); ++i) {
    const std::int32_t expected = reference.greedy_ids[i];
    const auto best =
        static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    ++result.tokens;
    if (best == expected) {
      ++result.top_choices;
    } else if (!reference.margins.empty() && reference.margins[i] < bounds.margin) {
      ++result.ties;
    } else {
      result.failures.push_back(
          fmt::format("token {} is {} instead of {}{}", i, best, expected,
                      reference.margins.empty()
                          ? std::string()
                          : fmt::format(", where the reference leads by {:.4g}", reference.margins[i])));
    }
    const bool ends = !ignore_eos && model.is_eos(expected);
    if (ends || i + 1 == reference.greedy_ids.size()) break;
    feed({&expected, 1});
  }
  if (result.tokens != static_cast<std::int64_t>(reference.greedy_ids.size()))
    result.failures.push_back(
        fmt::format("the reference goes on after the end token, at token {}", result.tokens - 1));
  runner.cache().release(blocks);
  return result;
}

}  // namespace sabrewing::engine
