#include "cli/serve_load.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/mapped_file.h"

namespace sabrewing::cli {
namespace {

constexpr std::size_t kLoadFileLimit = std::size_t{1} << 30;

/// The answer of one of the tokenizer routes, as an object.
Json ask_tokenizer(HttpClient& client, const char* target, const Json& body) {
  HttpRequest request;
  request.target = target;
  request.body = body.dump();
  const HttpResponse response = client.send(std::move(request));
  SABREWING_CHECK(response.ok(), kIo,
                  "[bench serve] {}: {} (a server without it can be measured with --dataset-name random-ids "
                  "--vocab-size N, or custom)",
                  target, response.failure());
  Json json = parse_json(response.body, target);
  SABREWING_CHECK(json.is_object(), kCorrupt, "[bench serve] {}: the answer is no object", target);
  return json;
}

std::vector<std::int64_t> tokenize(HttpClient& client, const std::string& text) {
  const Json json = ask_tokenizer(client, "/tokenize", {{"prompt", text}, {"add_special_tokens", false}});
  const auto tokens = json.find("tokens");
  const auto is_id = [](const Json& id) { return id.is_number_integer(); };
  SABREWING_CHECK(
      tokens != json.end() && tokens->is_array() && std::all_of(tokens->begin(), tokens->end(), is_id),
      kCorrupt, "[bench serve] /tokenize: field \"tokens\" is missing or no array of ids");
  return tokens->get<std::vector<std::int64_t>>();
}

std::string detokenize(HttpClient& client, const std::vector<std::int64_t>& ids) {
  const Json json = ask_tokenizer(client, "/detokenize", {{"tokens", ids}});
  const auto prompt = json.find("prompt");
  SABREWING_CHECK(prompt != json.end() && prompt->is_string(), kCorrupt,
                  "[bench serve] /detokenize: field \"prompt\" is missing or no string");
  return prompt->get<std::string>();
}

class PromptMaker {
 public:
  PromptMaker(const PromptOptions& options, HttpClient& client)
      : options_(options), client_(client), random_(options.seed) {}

  std::vector<ServePrompt> operator()() {
    if (options_.data_set == "custom") return read_file();
    std::vector<ServePrompt> prompts(static_cast<std::size_t>(options_.count));
    if (options_.data_set == "random" || options_.vocab_size == 0) find_ids();
    for (ServePrompt& prompt : prompts) {
      prompt.tokens = length(options_.input_len);
      prompt.output_tokens = length(options_.output_len);
      const std::vector<std::int64_t> ids = draw(prompt.tokens);
      if (options_.data_set == "random")
        prompt.content = fit_text(ids, prompt.tokens);
      else
        prompt.content = ids;
    }
    return prompts;
  }

 private:
  std::int64_t length(std::int64_t middle) {
    const auto exact = static_cast<double>(middle);
    const auto low = static_cast<std::int64_t>(std::floor(exact * (1 - options_.range_ratio)));
    const auto high = static_cast<std::int64_t>(std::ceil(exact * (1 + options_.range_ratio)));
    return std::uniform_int_distribution<std::int64_t>(std::max<std::int64_t>(low, 1), high)(random_);
  }

  /// Ids of ordinary text: those of random words and numbers.
  void find_ids() {
    std::string text;
    std::uniform_int_distribution<int> letter('a', 'z');
    std::uniform_int_distribution<int> size(1, 8);
    for (int word = 0; word < 2000; ++word) {
      text += ' ';
      for (int i = size(random_); i > 0; --i) text += static_cast<char>(letter(random_));
      if (word % 8 == 0) text += ' ' + std::to_string(random_() % 1000);
    }
    ids_ = tokenize(client_, text);
    std::sort(ids_.begin(), ids_.end());
    ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
    SABREWING_CHECK(!ids_.empty(), kCorrupt, "[bench serve] /tokenize: no tokens for text");
  }

  std::vector<std::int64_t> draw(std::int64_t count) {
    const bool known = ids_.empty();
    std::uniform_int_distribution<std::int64_t> any(
        0, known ? options_.vocab_size - 1 : static_cast<std::int64_t>(ids_.size()) - 1);
    std::vector<std::int64_t> ids(static_cast<std::size_t>(count));
    for (std::int64_t& id : ids) id = known ? any(random_) : ids_[static_cast<std::size_t>(any(random_))];
    return ids;
  }

  /// Text of `target` tokens: what random ids spell can be read as fewer or more tokens, so ids are added and
  /// taken away until it fits. `target` becomes the count reached.
  std::string fit_text(std::vector<std::int64_t> ids, std::int64_t& target) {
    constexpr int kRounds = 10;
    std::string text;
    for (int round = 0; round < kRounds; ++round) {
      text = detokenize(client_, ids);
      ids = tokenize(client_, text);
      const auto got = static_cast<std::int64_t>(ids.size());
      if (got == target || round + 1 == kRounds) {
        target = got;
        break;
      }
      if (got < target) {
        const std::vector<std::int64_t> more = draw(target - got);
        ids.insert(ids.end(), more.begin(), more.end());
      } else {
        ids.resize(static_cast<std::size_t>(target));
      }
    }
    return text;
  }

  std::vector<ServePrompt> read_file() const {
    const std::string text = read_text_file(options_.file, kLoadFileLimit);
    std::vector<ServePrompt> prompts;
    std::size_t line_number = 0;
    for (std::size_t at = 0;
         at < text.size() && static_cast<std::int64_t>(prompts.size()) < options_.count;) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      const std::string_view line = std::string_view(text).substr(at, end - at);
      at = end + 1;
      ++line_number;
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      const std::string where = fmt::format("{} line {}", options_.file, line_number);
      const Json json = parse_json(line, where);
      SABREWING_CHECK(json.is_object() && json.contains("prompt") && json["prompt"].is_string(), kCorrupt,
                      "[bench serve] {}: field \"prompt\" is missing or no string", where);
      ServePrompt prompt;
      prompt.content = json["prompt"];
      prompt.output_tokens = options_.custom_output_len;
      if (const auto length = json.find("output_tokens"); length != json.end()) {
        SABREWING_CHECK(length->is_number_integer() && *length >= 1 && *length <= (1 << 24), kCorrupt,
                        "[bench serve] {}: field \"output_tokens\" is no count of at least 1", where);
        prompt.output_tokens = length->get<std::int64_t>();
      }
      prompts.push_back(std::move(prompt));
    }
    SABREWING_CHECK(!prompts.empty(), kCorrupt, "[bench serve] {}: no prompts", options_.file);
    const std::size_t distinct = prompts.size();
    prompts.reserve(static_cast<std::size_t>(options_.count));
    while (static_cast<std::int64_t>(prompts.size()) < options_.count)
      prompts.push_back(prompts[prompts.size() % distinct]);
    return prompts;
  }

  const PromptOptions& options_;
  HttpClient& client_;
  std::mt19937_64 random_;
  std::vector<std::int64_t> ids_;
};

/// The text that a choice adds; null when it only announces the role.
std::optional<std::string> added_text(const Json& choice, bool chat) {
  const auto text_of = [](const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  if (!choice.is_object()) return std::nullopt;
  if (!chat) return text_of(choice, "text");
  const auto delta = choice.find("delta");
  if (delta == choice.end() || !delta->is_object()) return std::string();
  std::string text = text_of(*delta, "reasoning") + text_of(*delta, "content");
  if (text.empty() && delta->contains("role") && !delta->contains("tool_calls")) return std::nullopt;
  return text;
}

}  // namespace

std::vector<ServePrompt> make_prompts(const PromptOptions& options, HttpClient& client) {
  return PromptMaker(options, client)();
}

std::vector<double> arrival_times(std::int64_t count, double rate, double burstiness, std::uint64_t seed) {
  std::vector<double> times(static_cast<std::size_t>(count));
  if (!std::isfinite(rate)) return times;
  std::mt19937_64 random(seed);
  std::gamma_distribution<double> gap(burstiness, 1 / (rate * burstiness));
  double now = 0;
  for (double& time : times) time = now += gap(random);
  if (now > 0)
    for (double& time : times) time *= static_cast<double>(count) / rate / now;
  return times;
}

void AnswerRecorder::push(std::string_view piece, Clock::time_point when) {
  reader_.push(piece, [&](std::string_view data) { event(data, when); });
}

void AnswerRecorder::event(std::string_view data, Clock::time_point when) {
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  if (!request_.error.empty()) return;
  try {
    const Json json = parse_json(data, "event");
    if (json.is_object() && json.contains("error")) {
      request_.error = json["error"].dump();
      return;
    }
    if (const auto choices = json.find("choices"); choices != json.end() && choices->is_array()) {
      for (const Json& choice : *choices)
        if (const std::optional<std::string> text = added_text(choice, chat_)) {
          times_.push_back(when);
          if (keep_text_) request_.text += *text;
        }
    }
    if (const auto usage = json.find("usage"); usage != json.end() && usage->is_object()) {
      usage_output_ = usage->value("completion_tokens", usage_output_);
      request_.prompt_tokens = usage->value("prompt_tokens", request_.prompt_tokens);
    }
  } catch (const Error& error) {
    request_.error = error.what();
  } catch (const Json::exception& error) {
    request_.error = error.what();
  }
}

void AnswerRecorder::finish(const HttpResponse& response, Clock::time_point begin) {
  const auto seconds = [](Clock::duration time) { return std::chrono::duration<double>(time).count(); };
  request_.start = seconds(response.started - begin);
  if (!response.ok())
    request_.error = response.failure();
  else if (request_.error.empty() && !done_)
    request_.error = "the stream ended without [DONE]";
  else if (request_.error.empty() && times_.empty())
    request_.error = "the stream had no token";
  request_.success = request_.error.empty();
  if (times_.empty()) return;
  request_.ttft = seconds(times_.front() - response.started);
  request_.latency = seconds(times_.back() - response.started);
  for (std::size_t i = 1; i < times_.size(); ++i) request_.itl.push_back(seconds(times_[i] - times_[i - 1]));
  request_.output_tokens = usage_output_ > 0 ? usage_output_ : static_cast<std::int64_t>(times_.size());
}

}  // namespace sabrewing::cli
