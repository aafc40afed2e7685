#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "engine/loader.h"
#include "server/fields.h"
#include "server/http_server.h"
#include "server/response_store.h"
#include "server/workers.h"
#include "text/chat_template.h"
#include "text/grammar.h"

namespace sabrewing::server {

struct ServiceOptions {
  std::vector<std::string> model_names;      ///< what clients may call the model; the first is reported
  std::vector<std::string> api_keys;         ///< none: everyone may ask
  std::vector<std::string> allowed_origins;  ///< of browsers; "*" is any, none: no CORS headers
  std::string tool_parser;                   ///< empty: tools are refused
  std::string reasoning_parser;              ///< empty: reasoning stays content
  std::optional<std::uint64_t> seed;         ///< of requests that bring none
  std::string version;

  // Of one request.
  std::int64_t max_choices = 128;  ///< `n`
  std::int64_t max_prompts = 2048;
  std::int64_t max_answers = 4096;  ///< prompts times `n`
  std::size_t max_stop_strings = 64;
  std::size_t max_stop_bytes = 1024;  ///< of one stop string or bad word
  std::size_t max_listed_ids = 1024;  ///< stop tokens, bad words
  std::int64_t max_logprobs = 20;
};

/// What the routes work with: one model behind one engine. Immutable but for `draining`.
class Service {
 public:
  /// `model` and `engine` outlive it.
  Service(const engine::LoadedModel& model, engine::Engine& engine, ServiceOptions options);

  const engine::LoadedModel& model() const { return model_; }
  engine::Engine& engine() const { return engine_; }
  const ServiceOptions& options() const { return options_; }
  const std::string& model_name() const { return options_.model_names.front(); }
  std::int64_t started() const { return started_; }  ///< seconds since 1970

  /// The tokenizer, or a refusal that names `param`.
  const text::Tokenizer& tokenizer(const char* param) const;
  /// Ids of a prompt. Refuses one that cannot fit the context, before it is tokenized where that is plain.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens, const char* param) const;
  /// Refuses a prompt whose text alone is too long, before it is tokenized.
  void check_text(std::size_t bytes, const char* param) const;
  /// Refuses a prompt that leaves no room for an answer, with both numbers.
  void check_length(std::size_t tokens, const char* param) const;
  /// Refuses a length asked for that the context does not leave, with the numbers. Nothing: as much as it
  /// leaves.
  void check_answer_length(std::optional<std::int64_t> asked, std::size_t prompt_tokens,
                           const char* param) const;
  /// The text of one token; "token_id:7" for an id without one.
  std::string token_text(std::int32_t id) const;
  /// Compiles grammars for this model; made at the first use. Refuses with `param` where there is no
  /// tokenizer, throws `Error{kUnsupported}` in a build without grammars.
  text::GrammarCompiler& grammars(const char* param) const;
  /// Runs a task that compiles, which takes up to some seconds, on a thread of its own. False when too many
  /// wait.
  bool compile_later(std::function<void()> task) const;
  /// The conversation as the model reads it. Refuses a model without tokenizer or template.
  std::vector<text::PromptPart> render(const text::ChatRequest& request) const;
  /// Ids of a rendered conversation; refuses as `encode` does.
  std::vector<std::int32_t> encode_chat(const std::vector<text::PromptPart>& parts,
                                        bool add_special_tokens) const;

  ResponseStore& responses() const { return responses_; }

  std::atomic<bool> draining{false};
  /// Takes requests: the engine.
  std::function<engine::Submission(engine::Request, engine::RequestSink)> submit;
  /// Of the HTTP server, for the metrics; may be empty.
  std::function<HttpCounts()> http_counts;

 private:
  const engine::LoadedModel& model_;
  engine::Engine& engine_;
  const ServiceOptions options_;
  std::int64_t started_;
  std::size_t longest_token_ = 1;
  mutable ResponseStore responses_;
  mutable std::mutex grammars_mutex_;
  mutable std::unique_ptr<text::GrammarCompiler> grammars_;
  mutable std::unique_ptr<Workers> compilers_;
};

/// The JSON object of a POST request. Refuses other content types, malformed text and deep nesting.
OrderedJson read_body(Exchange& exchange);

/// Refuses a `model` that is not this one; absent is fine.
void check_model(const Service& service, Fields& fields);

/// The id of an answer: `request_id` of the request, else the X-Request-Id header, else a random one.
std::string response_id(Fields& fields, const Exchange& exchange, std::string_view prefix);
/// `prefix` and 24 random hexadecimal digits.
std::string random_id(std::string_view prefix);

/// 200 with a JSON body.
Response json_response(const OrderedJson& body);
/// Answers with the JSON and, in X-Sabrewing-Ignored, what the request had and nothing read.
std::vector<Header> ignored_header(const Fields& fields);

std::int64_t unix_seconds();

}  // namespace sabrewing::server
