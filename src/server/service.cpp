#include "server/service.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "server/errors.h"
#include "text/utf8.h"

namespace sabrewing::server {
namespace {

constexpr std::size_t kJsonDepth = 64;
constexpr std::size_t kRequestIdBytes = 256;
/// Normalization may shorten text by this factor (Hangul syllables from their parts).
constexpr std::size_t kShortening = 3;

/// Grammars that are compiled at a time, so that a slow one does not stop the next.
constexpr int kCompilers = 2;
constexpr std::size_t kMostCompilations = 64;

bool is_token_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
         c == '.' || c == ':';
}

}  // namespace

Service::Service(const engine::LoadedModel& model, engine::Engine& engine, ServiceOptions options)
    : submit([&engine](engine::Request request, engine::RequestSink sink) {
        return engine.submit(std::move(request), std::move(sink));
      }),
      model_(model),
      engine_(engine),
      options_(std::move(options)),
      started_(unix_seconds()) {
  SABREWING_CHECK(!options_.model_names.empty(), kInvalidArgument, "[serve] the model has no name");
  if (model_.tokenizer != nullptr)
    for (std::int32_t id = 0; id < model_.tokenizer->vocab_size(); ++id)
      if (model_.tokenizer->has_token(id))
        longest_token_ = std::max(longest_token_, model_.tokenizer->token_bytes(id).size());
}

const text::Tokenizer& Service::tokenizer(const char* param) const {
  if (model_.tokenizer == nullptr)
    throw ApiError(400, fmt::format("{}: this model has no tokenizer; send token ids", param), param);
  return *model_.tokenizer;
}

void Service::check_length(std::size_t tokens, const char* param) const {
  const auto longest = static_cast<std::size_t>(engine_.max_context());
  if (tokens >= longest)
    throw ApiError(
        400,
        fmt::format("This model's maximum context length is {} tokens, answer included. However, the "
                    "prompt has {} tokens.",
                    longest, tokens),
        param, "context_length_exceeded");
}

void Service::check_text(std::size_t bytes, const char* param) const {
  check_length(bytes / longest_token_ / kShortening, param);
}

std::vector<std::int32_t> Service::encode(std::string_view text, bool add_special_tokens,
                                          const char* param) const {
  const text::Tokenizer& tokens = tokenizer(param);
  check_text(text.size(), param);
  std::vector<std::int32_t> ids = tokens.encode(text, add_special_tokens);
  check_length(ids.size(), param);
  return ids;
}

void Service::check_answer_length(std::optional<std::int64_t> asked, std::size_t prompt_tokens,
                                  const char* param) const {
  const std::int64_t context = engine_.max_context();
  const std::int64_t left = context - static_cast<std::int64_t>(prompt_tokens);
  if (!asked || *asked <= left) return;
  throw ApiError(400,
                 fmt::format("{} is too large: {}. This model's maximum context length is {} tokens and the "
                             "prompt has {} tokens, which leaves {}.",
                             param, *asked, context, prompt_tokens, left),
                 param, "context_length_exceeded");
}

std::string Service::token_text(std::int32_t id) const {
  if (model_.tokenizer == nullptr || !model_.tokenizer->has_token(id)) return fmt::format("token_id:{}", id);
  return model_.tokenizer->decode({&id, 1}, false);
}

text::GrammarCompiler& Service::grammars(const char* param) const {
  const text::Tokenizer& tokens = tokenizer(param);
  const std::lock_guard lock(grammars_mutex_);
  if (grammars_ == nullptr)
    grammars_ = std::make_unique<text::GrammarCompiler>(tokens, model_.eos_ids, engine_.vocabulary());
  return *grammars_;
}

bool Service::compile_later(std::function<void()> task) const {
  const std::lock_guard lock(grammars_mutex_);
  if (compilers_ == nullptr) compilers_ = std::make_unique<Workers>(kCompilers, kMostCompilations);
  return compilers_->push(std::move(task));
}

std::vector<text::PromptPart> Service::render(const text::ChatRequest& request) const {
  if (!model_.chat_templates)
    throw ApiError(400, "this model has no chat template; use /v1/completions or --chat-template",
                   "messages");
  return model_.chat_templates->render_parts(request, tokenizer("messages"));
}

std::vector<std::int32_t> Service::encode_chat(const std::vector<text::PromptPart>& parts,
                                               bool add_special_tokens) const {
  const text::Tokenizer& tokens = tokenizer("messages");
  std::size_t bytes = 0;
  for (const text::PromptPart& part : parts) bytes += part.text.size();
  check_text(bytes, "messages");
  std::vector<std::int32_t> ids = text::encode_parts(tokens, parts);
  if (add_special_tokens) ids = tokens.with_special_tokens(std::move(ids));
  check_length(ids.size(), "messages");
  return ids;
}

OrderedJson read_body(Exchange& exchange) {
  const std::string_view type = exchange.request().header("Content-Type");
  std::string kind(type.substr(0, type.find(';')));
  std::transform(kind.begin(), kind.end(), kind.begin(), [](unsigned char c) { return std::tolower(c); });
  while (!kind.empty() && kind.back() == ' ') kind.pop_back();
  if (!kind.empty() && kind != "application/json" && !kind.ends_with("+json"))
    throw ApiError(415, fmt::format("Content-Type is {}, application/json expected", text::one_line(kind)));
  OrderedJson body;
  try {
    body = parse_ordered_json(exchange.request().body, "request", kJsonDepth);
  } catch (const Error& error) {
    throw ApiError(400, to_api_error(Error(ErrorCode::kInvalidArgument, error.what())).message, {},
                   "invalid_json");
  }
  exchange.drop_body();
  return body;
}

void check_model(const Service& service, Fields& fields) {
  const std::optional<std::string> name = fields.string("model");
  const std::vector<std::string>& names = service.options().model_names;
  if (!name || std::find(names.begin(), names.end(), *name) != names.end()) return;
  throw ApiError(404, fmt::format("The model `{}` does not exist.", text::one_line(*name, 200)), "model",
                 "model_not_found");
}

std::string random_id(std::string_view prefix) {
  thread_local std::mt19937_64 engine = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  return fmt::format("{}{:016x}{:08x}", prefix, engine(), static_cast<std::uint32_t>(engine()));
}

std::string response_id(Fields& fields, const Exchange& exchange, std::string_view prefix) {
  const auto usable = [](std::string_view id) {
    return !id.empty() && id.size() <= kRequestIdBytes &&
           std::all_of(id.begin(), id.end(), is_token_character);
  };
  if (const std::optional<std::string> id = fields.string("request_id")) {
    if (!usable(*id))
      fields.fail("request_id",
                  fmt::format("1 to {} letters, digits, '-', '_', '.' or ':' expected", kRequestIdBytes));
    return std::string(prefix) + *id;
  }
  const std::string_view header = exchange.request().header("X-Request-Id");
  return usable(header) ? std::string(prefix) + std::string(header) : random_id(prefix);
}

Response json_response(const OrderedJson& body) {
  Response response;
  response.body = dump(body);
  return response;
}

std::vector<Header> ignored_header(const Fields& fields) {
  std::string names;
  for (const std::string& name : fields.unknown()) {
    // Only what cannot break a header, and not much of it.
    if (!std::all_of(name.begin(), name.end(), is_token_character) || names.size() + name.size() > 512)
      continue;
    if (!names.empty()) names += ", ";
    names += name;
  }
  if (names.empty()) return {};
  return {{"X-Sabrewing-Ignored", names}};
}

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace sabrewing::server
