// POST /v1/messages and /v1/messages/count_tokens: Anthropic's protocol.
#include <fmt/core.h>

#include <limits>
#include <utility>

#include "server/answer.h"
#include "server/answer_parser.h"
#include "server/chat_messages.h"
#include "server/dialog.h"
#include "server/errors.h"
#include "server/routes.h"
#include "server/sampling_fields.h"
#include "text/utf8.h"

namespace sabrewing::server {
namespace {

using text::ChatDelta;

constexpr std::size_t kMostBlocks = 100'000;

/// The text of a string or of a list of text blocks.
std::string text_of(const OrderedJson& content, const std::string& path) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array())
    refuse(path, fmt::format("a string or a list of blocks expected, found {}", type_of(content)));
  std::string joined;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", path, i);
    Fields block(content[i], where + ".");
    const std::string type = block.string("type").value_or("");
    if (type != "text")
      refuse(where, fmt::format("{} blocks are not supported here: this server takes text only",
                                text::one_line("\"" + type + "\"")));
    const auto text = block.string("text");
    if (!text) refuse(where + ".text", "is missing");
    if (!joined.empty()) joined += '\n';
    joined += *text;
  }
  return joined;
}

/// One message of the conversation as one or more of chat completions': tool results are messages of their
/// own.
void add_message(const OrderedJson& message, const std::string& path, OrderedJson& messages) {
  Fields fields(message, path + ".");
  const std::string role = fields.string("role").value_or("");
  if (role != "user" && role != "assistant" && role != "system")
    refuse(path + ".role", "\"user\" or \"assistant\" expected");
  const OrderedJson* content = fields.find("content");
  if (content == nullptr) refuse(path + ".content", "is missing");
  if (content->is_string()) {
    messages.push_back({{"role", role}, {"content", *content}});
    return;
  }
  if (!content->is_array() || content->size() > kMostBlocks)
    refuse(path + ".content", "a string or a list of blocks expected");
  OrderedJson made = {{"role", role}, {"content", ""}};
  std::string text;
  std::string thinking;
  OrderedJson calls = OrderedJson::array();
  for (std::size_t i = 0; i < content->size(); ++i) {
    const std::string where = fmt::format("{}.content[{}]", path, i);
    Fields block((*content)[i], where + ".");
    const std::string type = block.string("type").value_or("");
    if (type == "text") {
      if (!text.empty()) text += '\n';
      text += block.string("text").value_or("");
    } else if (type == "thinking" && role == "assistant") {
      thinking += block.string("thinking").value_or("");
    } else if (type == "redacted_thinking" && role == "assistant") {
      continue;  // nobody can read it
    } else if (type == "tool_use" && role == "assistant") {
      const OrderedJson* input = block.object("input");
      for (const char* name : {"id", "name"})
        if (!block.string(name)) block.fail(name, "is missing");
      calls.push_back({{"id", block.string("id").value_or("")},
                       {"type", "function"},
                       {"function",
                        {{"name", block.string("name").value_or("")},
                         {"arguments", input == nullptr ? "{}" : dump(*input)}}}});
    } else if (type == "tool_result" && role == "user") {
      const OrderedJson* result = block.find("content");
      if (!block.string("tool_use_id")) block.fail("tool_use_id", "is missing");
      std::string shown = result == nullptr ? std::string() : text_of(*result, where + ".content");
      if (block.boolean("is_error").value_or(false)) shown.insert(0, "Error: ");
      messages.push_back(
          {{"role", "tool"}, {"tool_call_id", block.string("tool_use_id").value_or("")}, {"content", shown}});
    } else {
      refuse(where, fmt::format("{} blocks are not supported in a message of the {}",
                                text::one_line("\"" + type + "\""), role));
    }
  }
  made["content"] = text;
  if (!thinking.empty()) made["reasoning_content"] = thinking;
  if (!calls.empty()) made["tool_calls"] = std::move(calls);
  if (role == "assistant" || !text.empty() || messages.empty() || messages.back()["role"] != "tool")
    messages.push_back(std::move(made));
}

OrderedJson read_custom_tool(const OrderedJson& tool, const std::string& path) {
  Fields fields(tool, path + ".");
  const std::string type = fields.string("type").value_or("custom");
  if (type != "custom")
    refuse(path + ".type",
           fmt::format("{} tools are not supported, only \"custom\"", text::one_line("\"" + type + "\"")));
  OrderedJson function = {{"name", fields.string("name").value_or("")}};
  check_tool_name(function["name"].get_ref<const std::string&>(), path + ".name", kLongToolNameBytes);
  if (auto description = fields.string("description")) function["description"] = std::move(*description);
  if (const OrderedJson* schema = fields.object("input_schema")) function["parameters"] = *schema;
  if (fields.boolean("strict").value_or(false)) function["strict"] = true;
  return {{"type", "function"}, {"function", std::move(function)}};
}

void read_tool_choice(Fields& fields, Dialog& dialog) {
  const OrderedJson* choice = fields.object("tool_choice");
  if (choice == nullptr) return;
  Fields inner(*choice, "tool_choice.");
  const std::string type = inner.string("type").value_or("");
  if (inner.boolean("disable_parallel_tool_use").value_or(false)) dialog.parallel_calls = false;
  if (type == "auto" || type == "none")
    dialog.tool_choice = type;
  else if (type == "any")
    dialog.tool_choice = "required";
  else if (type == "tool")
    dialog.tool_choice = {{"type", "function"}, {"function", {{"name", inner.string("name").value_or("")}}}};
  else
    inner.fail("type", "\"auto\", \"any\", \"tool\" or \"none\" expected");
}

/// Reads what prompt and mask depend on; the rest stays.
Dialog read_dialog(Fields& fields, std::optional<ContentFormat>& format) {
  Dialog dialog;
  if (const OrderedJson* system = fields.find("system")) {
    std::string text = text_of(*system, "system");
    if (!text.empty()) dialog.messages.push_back({{"role", "system"}, {"content", std::move(text)}});
  }
  const OrderedJson* messages = fields.array("messages");
  if (messages == nullptr || messages->empty()) refuse("messages", "a list of messages expected");
  for (std::size_t i = 0; i < messages->size(); ++i)
    add_message((*messages)[i], fmt::format("messages[{}]", i), dialog.messages);
  dialog.continue_last = dialog.messages.back()["role"] == "assistant";
  if (const OrderedJson* tools = fields.array("tools"); tools != nullptr && !tools->empty()) {
    dialog.tools = OrderedJson::array();
    for (std::size_t i = 0; i < tools->size(); ++i)
      dialog.tools.push_back(read_custom_tool((*tools)[i], fmt::format("tools[{}]", i)));
  }
  read_tool_choice(fields, dialog);
  if (const OrderedJson* thinking = fields.object("thinking")) {
    Fields inner(*thinking, "thinking.");
    const std::string type = inner.string("type").value_or("");
    if (type != "enabled" && type != "disabled" && type != "adaptive")
      inner.fail("type", "\"enabled\", \"adaptive\" or \"disabled\" expected");
    dialog.template_kwargs = {{"enable_thinking", type != "disabled"}};
  }
  if (const OrderedJson* output = fields.object("output_config")) {
    Fields inner(*output, "output_config.");
    if (auto effort = inner.string("effort", 64)) dialog.reasoning_effort = std::move(*effort);
    if (const OrderedJson* wanted = inner.object("format"))
      format = read_format(*wanted, "output_config.format");
  }
  if (const OrderedJson* wanted = fields.object("output_format"))
    format = read_format(*wanted, "output_format");
  return dialog;
}

struct MessageRequest {
  GenerationRequest generation;
  DialogRequest dialog;
  std::string id;
  std::vector<Header> headers;
  bool stream = false;
};

MessageRequest read_message_request(const OrderedJson& body, const Service& service,
                                    const Exchange& exchange) {
  Fields fields(body);
  check_model(service, fields);
  MessageRequest request;
  request.id = response_id(fields, exchange, "msg_");
  request.stream = fields.boolean("stream").value_or(false);
  read_sampling(fields, service, request.generation);
  engine::SamplingParams& params = request.generation.common.sampling;
  const auto most = fields.integer("max_tokens", 1, kMostTokens);
  if (!most) refuse("max_tokens", "is missing");
  params.max_tokens = *most;
  if (auto stops = fields.strings("stop_sequences", service.options().max_stop_strings,
                                  service.options().max_stop_bytes)) {
    for (const std::string& stop : *stops)
      if (stop.empty()) fields.fail("stop_sequences", "an empty string");
    params.stop = std::move(*stops);
  }
  if (params.temperature > 2) fields.fail("temperature", "0 to 2 expected");
  check_sampling(fields, service, params);
  if (request.generation.choices != 1) fields.fail("n", "one answer a request");
  std::optional<ContentFormat> format;
  const Dialog dialog = read_dialog(fields, format);
  fields.refuse("mcp_servers", "this server calls no tools");
  fields.refuse("container", "this server runs no code");
  fields.ignore({"service_tier", "context_management", "betas", "inference_geo", "cache_control"});
  request.dialog = prepare_dialog(service, dialog, std::move(format), request.generation);
  service.check_answer_length(most, request.generation.prompts.front().size(), "max_tokens");
  request.headers = ignored_header(fields);
  return request;
}

OrderedJson usage_of(const engine::Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached_tokens},
          {"output_tokens", usage.completion_tokens}};
}

/// An answer as content blocks; each is open until another kind of piece comes.
class Message {
 public:
  Message(const std::shared_ptr<Service>& service, ExchangePtr exchange, MessageRequest request)
      : service_(service),
        exchange_(std::move(exchange)),
        request_(std::move(request)),
        parser_(*service, request_.dialog.tools, request_.dialog.prompt),
        events_(exchange_, request_.headers) {}

  GenerationRequest take_generation() { return std::move(request_.generation); }

  void hear(const engine::RequestUpdate& update) {
    if (update.finished && (update.error || update.reason == engine::FinishReason::kAborted)) {
      const ApiError error = failed_answer(update);
      if (!begun_) return exchange_->respond(messages_error(error));
      events_.send("error", OrderedJson::parse(messages_error(error).body));
      return events_.end();
    }
    if (!begun_ && request_.stream && (update.finished || !update.tokens.empty())) begin(update.usage);
    for (const ChatDelta& delta : parser_.take(update)) add(delta);
    if (update.finished) finish(update);
  }

 private:
  void send(const char* type, const OrderedJson& fields) {
    if (!request_.stream) return;
    OrderedJson event = {{"type", type}};
    event.update(fields);
    events_.send(type, event);
  }

  OrderedJson frame(OrderedJson content, OrderedJson reason, OrderedJson sequence,
                    const engine::Usage& usage) const {
    return {{"id", request_.id},
            {"type", "message"},
            {"role", "assistant"},
            {"model", service_->model_name()},
            {"content", std::move(content)},
            {"stop_reason", std::move(reason)},
            {"stop_sequence", std::move(sequence)},
            {"usage", usage_of(usage)}};
  }

  void begin(engine::Usage usage) {
    begun_ = true;
    send("message_start", {{"message", frame(OrderedJson::array(), nullptr, nullptr, usage)}});
  }

  void open(OrderedJson block) {
    close();
    open_ = true;
    send("content_block_start", {{"index", blocks_.size()}, {"content_block", block}});
    blocks_.push_back(std::move(block));
  }

  void close() {
    if (!std::exchange(open_, false)) return;
    OrderedJson& block = blocks_.back();
    if (block["type"] == "thinking") delta({{"type", "signature_delta"}, {"signature", ""}});
    if (block["type"] == "tool_use") {
      OrderedJson input = OrderedJson::parse(arguments_, nullptr, false);
      block["input"] = input.is_object() ? std::move(input) : OrderedJson::object();
    }
    send("content_block_stop", {{"index", blocks_.size() - 1}});
  }

  void delta(OrderedJson what) {
    send("content_block_delta", {{"index", blocks_.size() - 1}, {"delta", std::move(what)}});
  }

  bool is_open(const char* type) const { return open_ && blocks_.back()["type"] == type; }

  void add(const ChatDelta& piece) {
    switch (piece.kind) {
      case ChatDelta::Kind::kReasoning:
        if (!is_open("thinking")) open({{"type", "thinking"}, {"thinking", ""}, {"signature", ""}});
        append("thinking", piece.text);
        return delta({{"type", "thinking_delta"}, {"thinking", piece.text}});
      case ChatDelta::Kind::kContent:
        if (!is_open("text")) open({{"type", "text"}, {"text", ""}});
        append("text", piece.text);
        return delta({{"type", "text_delta"}, {"text", piece.text}});
      case ChatDelta::Kind::kToolCall:
        calls_ = true;
        close();
        arguments_.clear();
        return open({{"type", "tool_use"},
                     {"id", piece.id.empty() ? random_id("toolu_") : piece.id},
                     {"name", piece.text},
                     {"input", OrderedJson::object()}});
      case ChatDelta::Kind::kToolArguments:
        arguments_ += piece.text;
        return delta({{"type", "input_json_delta"}, {"partial_json", piece.text}});
    }
  }

  void append(const char* field, const std::string& text) {
    blocks_.back()[field].get_ref<std::string&>() += text;
  }

  void finish(const engine::RequestUpdate& update) {
    close();
    OrderedJson reason = "end_turn";
    if (update.reason == engine::FinishReason::kLength)
      reason = "max_tokens";
    else if (update.stop_string)
      reason = "stop_sequence";
    else if (calls_)
      reason = "tool_use";
    const OrderedJson sequence = update.stop_string ? OrderedJson(*update.stop_string) : OrderedJson();
    if (!request_.stream) {
      Response response = json_response(frame(std::move(blocks_), reason, sequence, update.usage));
      response.headers = request_.headers;
      return exchange_->respond(std::move(response));
    }
    send("message_delta", {{"delta", {{"stop_reason", reason}, {"stop_sequence", sequence}}},
                           {"usage", usage_of(update.usage)}});
    send("message_stop", OrderedJson::object());
    events_.end();
  }

  const std::shared_ptr<Service> service_;
  const ExchangePtr exchange_;
  MessageRequest request_;
  AnswerParser parser_;
  EventStream events_;
  OrderedJson blocks_ = OrderedJson::array();
  std::string arguments_;  ///< of the open call
  bool open_ = false;
  bool calls_ = false;
  bool begun_ = false;
};

}  // namespace

Response messages_error(const ApiError& error) {
  const char* type = "invalid_request_error";
  if (error.status == 401)
    type = "authentication_error";
  else if (error.status == 404)
    type = "not_found_error";
  else if (error.status == 413)
    type = "request_too_large";
  else if (error.status == 429)
    type = "rate_limit_error";
  else if (error.status == 503)
    type = "overloaded_error";
  else if (error.status >= 500)
    type = "api_error";
  Response response = error_response(error);
  response.body = dump({{"type", "error"}, {"error", {{"type", type}, {"message", error.message}}}});
  return response;
}

void handle_messages(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const OrderedJson body = read_body(*exchange);
  auto message =
      std::make_shared<Message>(service, exchange, read_message_request(body, *service, *exchange));
  start_generation(service, message->take_generation(), exchange,
                   [message](std::size_t, const engine::RequestUpdate& update) { message->hear(update); });
}

void handle_count_tokens(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const OrderedJson body = read_body(*exchange);
  Fields fields(body);
  check_model(*service, fields);
  std::optional<ContentFormat> format;
  GenerationRequest generation;
  Dialog dialog = read_dialog(fields, format);
  dialog.tool_choice = nullptr;
  prepare_dialog(*service, dialog, std::nullopt, generation);
  exchange->respond(json_response({{"input_tokens", generation.prompts.front().size()}}));
}

}  // namespace sabrewing::server
