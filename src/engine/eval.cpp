#include "engine/eval.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <regex>

#include "core/clock.h"
#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "text/detokenizer.h"

namespace sabrewing::engine {
namespace {

constexpr std::size_t kQuestionFileLimit = std::size_t{256} << 20;
constexpr char kInvalid[] = "[invalid]";

std::string normalise(std::string text) {
  if (const std::size_t mark = text.rfind("#### "); mark != std::string::npos) text.erase(0, mark + 5);
  std::string kept;
  for (const char c : text)
    if (c != ',' && c != '$') kept += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (!kept.empty() && kept.back() == '.') kept.pop_back();
  return kept;
}

/// What a chat client sees of an answer: no reasoning, no markup.
std::string answer_content(const LoadedModel& model, const std::string& prompt,
                           const std::vector<std::int32_t>& ids) {
  const text::ChatParserDefaults parsers = model.chat_parsers();
  text::ChatParserOptions options;
  options.tool_parser = parsers.tool_parser;
  options.reasoning_parser = parsers.reasoning_parser;
  options.parse_tools = false;
  options.prompt = prompt;
  options.tokenizer = model.tokenizer.get();
  const std::unique_ptr<text::ChatParser> parser = text::make_chat_parser(options);
  text::Detokenizer detokenizer(*model.tokenizer, false);
  std::vector<text::ChatDelta> deltas;
  for (const std::int32_t id : ids)
    if (model.tokenizer->has_token(id) && !model.is_eos(id)) parser->push(id, detokenizer.push(id), deltas);
  parser->push(-1, detokenizer.flush(), deltas);
  parser->finish(deltas);
  std::string content;
  for (const text::ChatDelta& delta : deltas)
    if (delta.kind == text::ChatDelta::Kind::kContent) content += delta.text;
  return content;
}

}  // namespace

std::vector<EvalQuestion> read_questions(const std::filesystem::path& file) {
  const std::string text = read_text_file(file, kQuestionFileLimit);
  std::vector<EvalQuestion> questions;
  std::size_t line_number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{} line {}", file.string(), line_number);
    const Json json = parse_json(line, where);
    for (const char* key : {"question", "answer"})
      SABREWING_CHECK(json.is_object() && json.contains(key) && json[key].is_string(), kCorrupt,
                      "[eval] {}: field \"{}\" is missing or no string", where, key);
    questions.push_back({json["question"].get<std::string>(), json["answer"].get<std::string>()});
    SABREWING_CHECK(questions.back().answer.find("#### ") != std::string::npos, kCorrupt,
                    "[eval] {}: field \"answer\" has no \"#### \" before its result", where);
  }
  SABREWING_CHECK(!questions.empty(), kCorrupt, "[eval] {}: no questions", file.string());
  return questions;
}

std::string extract_strict(const std::string& response) {
  static const std::regex pattern("#### (-?[0-9.,]+)");
  std::smatch match;
  return std::regex_search(response, match, pattern) ? match[1].str() : kInvalid;
}

std::string extract_flexible(const std::string& response) {
  static const std::regex pattern("(-?[$0-9.,]{2,})|(-?[0-9]+)");
  std::string last = kInvalid;
  for (std::sregex_iterator it(response.begin(), response.end(), pattern), end; it != end; ++it)
    last = it->str();
  return last;
}

bool exact_match(const std::string& extracted, const std::string& answer) {
  return normalise(extracted) == normalise(answer);
}

Score make_score(std::int64_t right, std::int64_t total) {
  const double p = total > 0 ? static_cast<double>(right) / static_cast<double>(total) : 0;
  return {p, total > 1 ? std::sqrt(p * (1 - p) / static_cast<double>(total - 1)) : 0};
}

void add_answer(EvalResult& result, const EvalQuestion& question, const std::string& text,
                std::int64_t tokens) {
  ++result.questions;
  result.generated_tokens += tokens;
  result.strict += exact_match(extract_strict(text), question.answer);
  result.flexible += exact_match(extract_flexible(text), question.answer);
}

EvalResult evaluate(LoadedModel& model, Generator& generator, const std::vector<EvalQuestion>& questions,
                    std::int64_t max_tokens, const std::function<bool(const EvalResult&)>& done) {
  SABREWING_CHECK(model.tokenizer != nullptr && model.chat_templates.has_value(), kNotFound,
                  "[eval] {} has no tokenizer or no chat template", model.folder.string());
  SamplingParams params;
  params.temperature = 0;
  params.max_tokens = max_tokens;
  EvalResult result;
  const auto start = std::chrono::steady_clock::now();
  for (const EvalQuestion& question : questions) {
    const OrderedJson messages = OrderedJson::array({{{"role", "user"}, {"content", question.question}}});
    text::ChatRequest request;
    request.messages = messages;
    request.add_generation_prompt = true;
    const ChatPrompt prompt = model.chat_prompt(request);
    const Generation answer = generator.generate(prompt.ids, params, {});
    add_answer(result, question, answer_content(model, prompt.text, answer.ids),
               static_cast<std::int64_t>(answer.ids.size()));
    result.seconds = seconds_since(start);
    if (done && !done(result)) break;
  }
  return result;
}

}  // namespace sabrewing::engine
