// POST /v1/chat/completions.
#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "server/answer.h"
#include "server/answer_parser.h"
#include "server/chat_messages.h"
#include "server/constraints.h"
#include "server/errors.h"
#include "server/generation.h"
#include "server/logprobs.h"
#include "server/routes.h"
#include "server/sampling_fields.h"

namespace sabrewing::server {
namespace {

using text::ChatDelta;

struct ChatRequest {
  GenerationRequest generation;
  StreamOptions stream;
  ToolChoice tools;
  std::string id;
  std::string prompt;  ///< rendered
  std::string echo;    ///< what stands before the answer
  std::vector<Header> headers;
  bool logprobs = false;
  bool prompt_logprobs = false;
  OutputOptions output;
};

/// The answer's length as the request gives it, and the field that does.
struct AskedLength {
  std::optional<std::int64_t> tokens;
  const char* field = "max_completion_tokens";
};

AskedLength read_lengths(Fields& fields, const Service& service, ChatRequest& request) {
  engine::SamplingParams& params = request.generation.common.sampling;
  AskedLength asked;
  asked.tokens = fields.integer("max_completion_tokens", 1, kMostTokens);
  if (const auto older = fields.integer("max_tokens", 1, kMostTokens); older && !asked.tokens)
    asked = {older, "max_tokens"};
  params.max_tokens = asked.tokens.value_or(kMostTokens);
  const std::int64_t most = service.options().max_logprobs;
  request.logprobs = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, most);
  if (top && *top > 0 && !request.logprobs) fields.fail("top_logprobs", "only with logprobs: true");
  if (request.logprobs) params.logprobs = top.value_or(0);
  if (const auto prompt = fields.integer("prompt_logprobs", 0, most)) {
    if (request.stream.stream) fields.fail("prompt_logprobs", "not with stream: true");
    request.prompt_logprobs = true;
    request.generation.common.prompt_logprobs = prompt;
  }
  return asked;
}

ChatRequest read_chat_request(const OrderedJson& body, const Service& service, const Exchange& exchange) {
  Fields fields(body);
  check_model(service, fields);
  ChatRequest request;
  GenerationRequest& generation = request.generation;
  request.id = response_id(fields, exchange, "chatcmpl-");
  request.stream = read_stream_options(fields);
  request.output = read_output_options(fields);
  read_sampling(fields, service, generation);
  const AskedLength length = read_lengths(fields, service, request);
  check_sampling(fields, service, generation.common.sampling);
  fields.refuse("audio", "this server answers with text only");
  if (const OrderedJson* kinds = fields.array("modalities"))
    for (const OrderedJson& kind : *kinds)
      if (kind != "text") fields.fail("modalities", "only \"text\" is supported", "unsupported");
  fields.refuse("web_search_options", "this server searches nothing");
  fields.ignore({"prediction", "verbosity", "include_reasoning", "separate_reasoning"});

  request.tools = read_tools(fields, service);
  OrderedJson messages = read_messages(fields);
  if (fields.boolean("echo").value_or(false) && messages.back()["role"] == "assistant")
    request.echo = messages.back()["content"].get<std::string>();
  const bool special = fields.boolean("add_special_tokens").value_or(false);
  auto [text, ids] = render_chat(fields, service, std::move(messages), request.tools.tools, special);
  request.prompt = std::move(text);
  truncate_prompt(fields, service, ids);
  if (ids.empty()) fields.fail("messages", "the prompt is empty");
  service.check_answer_length(length.tokens, ids.size(), length.field);
  generation.prompts.push_back(std::move(ids));
  restrict_answer(service, request.tools, read_content_format(fields), &request.prompt, generation);
  // A parser needs to see the markup; it drops what is none of the answer.
  if (has_parser(service)) generation.common.skip_special_tokens = false;
  request.headers = ignored_header(fields);
  return request;
}

/// One answer as it grows.
struct Choice {
  struct Call {
    std::string id;
    std::string name;
    std::string arguments;
  };
  std::optional<AnswerParser> parser;
  std::string content;
  std::string reasoning;
  std::vector<Call> calls;
  OrderedJson logprobs = OrderedJson::array();
  std::vector<std::int32_t> ids;
  std::vector<engine::TokenLogprobs> prompt;
  engine::RequestUpdate last;
  bool started = false;
};

class Chat {
 public:
  Chat(std::shared_ptr<Service> service, ExchangePtr exchange, ChatRequest request);

  GenerationRequest take_generation() { return std::move(request_.generation); }
  void hear(std::size_t index, const engine::RequestUpdate& update);

 private:
  OrderedJson apply(Choice& choice, const ChatDelta& delta) const;
  OrderedJson finish_reason_of(const Choice& choice, const engine::RequestUpdate& update) const;
  void send(std::size_t index, OrderedJson delta, const engine::RequestUpdate* end);
  OrderedJson frame(const char* object, OrderedJson choices) const;
  OrderedJson message(const Choice& choice) const;
  void stream(std::size_t index, const std::vector<ChatDelta>& deltas, const engine::RequestUpdate& update);
  void finish();

  const std::shared_ptr<Service> service_;
  const ExchangePtr exchange_;
  ChatRequest request_;
  const std::vector<std::int32_t> prompt_ids_;
  const std::int64_t created_ = unix_seconds();
  const std::string fingerprint_;
  std::vector<Choice> choices_;
  std::size_t open_;
  UsageSum usage_;
  EventStream events_;
  bool failed_ = false;
};

Chat::Chat(std::shared_ptr<Service> service, ExchangePtr exchange, ChatRequest request)
    : service_(std::move(service)),
      exchange_(std::move(exchange)),
      request_(std::move(request)),
      prompt_ids_(request_.output.return_ids ? request_.generation.prompts.front()
                                             : std::vector<std::int32_t>()),
      fingerprint_("sabrewing-" + service_->options().version),
      choices_(static_cast<std::size_t>(request_.generation.choices)),
      open_(choices_.size()),
      usage_(open_, request_.generation.choices),
      events_(exchange_, request_.headers) {
  for (Choice& choice : choices_) choice.parser.emplace(*service_, request_.tools, request_.prompt);
}

/// Adds one piece to the choice; the delta that says so.
OrderedJson Chat::apply(Choice& choice, const ChatDelta& delta) const {
  const auto call_delta = [&](OrderedJson call) {
    return OrderedJson({{"tool_calls", OrderedJson::array({std::move(call)})}});
  };
  switch (delta.kind) {
    case ChatDelta::Kind::kReasoning:
      choice.reasoning += delta.text;
      return {{"reasoning", delta.text}};
    case ChatDelta::Kind::kContent:
      choice.content += delta.text;
      return {{"content", delta.text}};
    case ChatDelta::Kind::kToolCall: {
      const std::string id = delta.id.empty() ? random_id("call_") : delta.id;
      choice.calls.push_back({id, delta.text, {}});
      return call_delta({{"index", delta.call},
                         {"id", id},
                         {"type", "function"},
                         {"function", {{"name", delta.text}, {"arguments", ""}}}});
    }
    case ChatDelta::Kind::kToolArguments:
      choice.calls.at(static_cast<std::size_t>(delta.call)).arguments += delta.text;
      return call_delta({{"index", delta.call}, {"function", {{"arguments", delta.text}}}});
  }
  return OrderedJson::object();
}

OrderedJson Chat::finish_reason_of(const Choice& choice, const engine::RequestUpdate& update) const {
  if (!choice.calls.empty() && update.reason == engine::FinishReason::kStop) return "tool_calls";
  return finish_reason(update);
}

OrderedJson Chat::frame(const char* object, OrderedJson choices) const {
  return {{"id", request_.id},
          {"object", object},
          {"created", created_},
          {"model", service_->model_name()},
          {"system_fingerprint", fingerprint_},
          {"choices", std::move(choices)}};
}

/// One chunk. `end` is set for the one with the finish reason.
void Chat::send(std::size_t index, OrderedJson delta, const engine::RequestUpdate* end) {
  Choice& choice = choices_[index];
  OrderedJson json = {{"index", index}, {"delta", std::move(delta)}, {"logprobs", nullptr}};
  if (!choice.logprobs.empty())
    json["logprobs"] = {{"content", std::exchange(choice.logprobs, OrderedJson::array())}};
  json["finish_reason"] = end != nullptr ? finish_reason_of(choice, *end) : OrderedJson();
  if (end != nullptr) json["stop_reason"] = stop_reason(*end);
  if (!choice.ids.empty()) json["token_ids"] = std::exchange(choice.ids, {});
  OrderedJson chunk = frame("chat.completion.chunk", OrderedJson::array({std::move(json)}));
  if (!choice.started && request_.output.return_ids) chunk["prompt_token_ids"] = prompt_ids_;
  if (request_.stream.continuous_usage)
    chunk["usage"] = usage_json(usage_.of(index));
  else if (request_.stream.include_usage)
    chunk["usage"] = nullptr;
  events_.send(chunk);
  choice.started = true;
}

void Chat::stream(std::size_t index, const std::vector<ChatDelta>& deltas,
                  const engine::RequestUpdate& update) {
  Choice& choice = choices_[index];
  if (!choice.started) {
    // Role first, with nothing of the first token yet.
    OrderedJson logprobs = std::exchange(choice.logprobs, OrderedJson::array());
    std::vector<std::int32_t> ids = std::exchange(choice.ids, {});
    send(index, {{"role", "assistant"}, {"content", request_.echo}}, nullptr);
    choice.logprobs = std::move(logprobs);
    choice.ids = std::move(ids);
  }
  for (const ChatDelta& delta : deltas) send(index, apply(choice, delta), nullptr);
  if (update.finished) send(index, OrderedJson::object(), &update);
}

void Chat::hear(std::size_t index, const engine::RequestUpdate& update) {
  Choice& choice = choices_[index];
  usage_.update(index, update.usage);
  choice.prompt.insert(choice.prompt.end(), update.prompt_logprobs.begin(), update.prompt_logprobs.end());
  for (const engine::OutputToken& token : update.tokens) {
    if (request_.output.return_ids) choice.ids.push_back(token.id);
    if (request_.logprobs)
      choice.logprobs.push_back(chat_logprob(*service_, token.logprobs, request_.output.tokens_as_ids));
  }
  const std::vector<ChatDelta> deltas = choice.parser->take(update, request_.output.stop_in_output);
  if (update.finished) {
    --open_;
    choice.last = update;
    const bool wrong = update.error.has_value() || update.reason == engine::FinishReason::kAborted;
    if (wrong && !std::exchange(failed_, true)) events_.fail(failed_answer(update));
  }
  if (!failed_) {
    if (!request_.stream.stream)
      for (const ChatDelta& delta : deltas) apply(choice, delta);
    else if (update.finished || !update.tokens.empty())
      stream(index, deltas, update);
  }
  if (open_ == 0) finish();
}

OrderedJson Chat::message(const Choice& choice) const {
  OrderedJson message = {{"role", "assistant"}};
  const std::string content = request_.echo + choice.content;
  const bool nothing = content.empty() && (!choice.calls.empty() || !choice.reasoning.empty());
  message["content"] = nothing ? OrderedJson() : OrderedJson(content);
  message["refusal"] = nullptr;
  message["reasoning"] = choice.reasoning.empty() ? OrderedJson() : OrderedJson(choice.reasoning);
  if (choice.calls.empty()) return message;
  OrderedJson calls = OrderedJson::array();
  for (const Choice::Call& call : choice.calls)
    calls.push_back({{"id", call.id},
                     {"type", "function"},
                     {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  message["tool_calls"] = std::move(calls);
  return message;
}

void Chat::finish() {
  if (request_.stream.stream) {
    if (request_.stream.include_usage && !failed_) {
      OrderedJson chunk = frame("chat.completion.chunk", OrderedJson::array());
      chunk["usage"] = usage_json(usage_.total());
      events_.send(chunk);
    }
    return events_.done();
  }
  if (failed_) return;
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    OrderedJson json = {{"index", i}, {"message", message(choice)}, {"logprobs", nullptr}};
    if (request_.logprobs) json["logprobs"] = {{"content", std::move(choice.logprobs)}, {"refusal", nullptr}};
    json["finish_reason"] = finish_reason_of(choice, choice.last);
    json["stop_reason"] = stop_reason(choice.last);
    if (request_.output.return_ids) json["token_ids"] = choice.ids;
    list.push_back(std::move(json));
  }
  OrderedJson body = frame("chat.completion", std::move(list));
  body["usage"] = usage_json(usage_.total());
  if (request_.prompt_logprobs) body["prompt_logprobs"] = prompt_logprobs(*service_, choices_.front().prompt);
  if (request_.output.return_ids) body["prompt_token_ids"] = prompt_ids_;
  Response response = json_response(body);
  response.headers = request_.headers;
  exchange_->respond(std::move(response));
}

}  // namespace

void handle_chat(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const auto chat =
      std::make_shared<Chat>(service, exchange, read_chat_request(read_body(*exchange), *service, *exchange));
  start_generation(
      service, chat->take_generation(), exchange,
      [chat](std::size_t index, const engine::RequestUpdate& update) { chat->hear(index, update); });
}

}  // namespace sabrewing::server
