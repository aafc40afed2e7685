// POST /v1/responses, GET and DELETE /v1/responses/{id}, POST /v1/responses/{id}/cancel: OpenAI's Responses
// API.
#include <fmt/core.h>

#include <limits>
#include <utility>

#include "server/answer.h"
#include "server/answer_parser.h"
#include "server/chat_messages.h"
#include "server/dialog.h"
#include "server/errors.h"
#include "server/response_store.h"
#include "server/routes.h"
#include "server/sampling_fields.h"
#include "text/utf8.h"

namespace sabrewing::server {
namespace {

using text::ChatDelta;

OrderedJson text_or_empty(const OrderedJson* content, const std::string& path) {
  if (content == nullptr) return "";
  OrderedJson text = read_content(*content, path);
  return text.is_null() ? OrderedJson("") : text;
}

/// The last message when it is the assistant's and can take more, else a new one.
OrderedJson& assistant(OrderedJson& messages, bool& open) {
  if (!std::exchange(open, true)) messages.push_back({{"role", "assistant"}, {"content", ""}});
  return messages.back();
}

/// Input items as chat messages: an answer's reasoning, text and calls become one message of the assistant.
void add_items(const OrderedJson& items, OrderedJson& messages) {
  bool open = false;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::string path = fmt::format("input[{}]", i);
    Fields item(items[i], path + ".");
    const std::string type = item.string("type").value_or("message");
    if (type == "message") {
      const std::string role = item.string("role").value_or("");
      if (role != "user" && role != "assistant" && role != "system" && role != "developer")
        refuse(path + ".role", "\"user\", \"assistant\", \"system\" or \"developer\" expected");
      const OrderedJson text = text_or_empty(item.find("content"), path + ".content");
      if (role == "assistant" && open && messages.back()["content"].get_ref<const std::string&>().empty() &&
          !messages.back().contains("tool_calls")) {
        messages.back()["content"] = text;
        continue;
      }
      messages.push_back({{"role", role}, {"content", text}});
      open = role == "assistant";
    } else if (type == "reasoning") {
      std::string reasoning;
      for (const char* list : {"content", "summary"})
        if (const OrderedJson* parts = item.array(list))
          for (const OrderedJson& part : *parts)
            if (reasoning.empty() || std::string_view(list) == "content")
              reasoning += Fields(part, path + ".").string("text").value_or("");
      open = false;
      OrderedJson& message = assistant(messages, open);
      if (!reasoning.empty()) message["reasoning_content"] = reasoning;
    } else if (type == "function_call") {
      const auto arguments = item.string("arguments");
      for (const char* name : {"call_id", "name"})
        if (!item.string(name)) item.fail(name, "is missing");
      assistant(messages, open)["tool_calls"].push_back(
          {{"id", item.string("call_id").value_or("")},
           {"type", "function"},
           {"function",
            {{"name", item.string("name").value_or("")}, {"arguments", arguments.value_or("{}")}}}});
    } else if (type == "function_call_output") {
      open = false;
      if (!item.string("call_id")) item.fail("call_id", "is missing");
      messages.push_back({{"role", "tool"},
                          {"tool_call_id", item.string("call_id").value_or("")},
                          {"content", text_or_empty(item.find("output"), path + ".output")}});
    } else {
      refuse(path + ".type", fmt::format("{} items are not supported", text::one_line("\"" + type + "\"")));
    }
  }
}

/// {"type": "function", "name", ...} as chat completions nest it.
OrderedJson read_function_tool(const OrderedJson& tool, const std::string& path) {
  Fields fields(tool, path + ".");
  const std::string type = fields.string("type").value_or("");
  if (type != "function")
    refuse(path + ".type",
           fmt::format("{} tools are not supported, only functions", text::one_line("\"" + type + "\"")));
  OrderedJson function = {{"name", fields.string("name").value_or("")}};
  check_tool_name(function["name"].get_ref<const std::string&>(), path + ".name");
  if (auto description = fields.string("description")) function["description"] = std::move(*description);
  if (const OrderedJson* parameters = fields.object("parameters")) function["parameters"] = *parameters;
  if (fields.boolean("strict").value_or(false)) function["strict"] = true;
  return {{"type", "function"}, {"function", std::move(function)}};
}

void read_tools_of(Fields& fields, Dialog& dialog) {
  if (const OrderedJson* tools = fields.array("tools"); tools != nullptr && !tools->empty()) {
    dialog.tools = OrderedJson::array();
    for (std::size_t i = 0; i < tools->size(); ++i)
      dialog.tools.push_back(read_function_tool((*tools)[i], fmt::format("tools[{}]", i)));
  }
  if (const auto parallel = fields.boolean("parallel_tool_calls")) dialog.parallel_calls = *parallel;
  const OrderedJson* choice = fields.find("tool_choice");
  if (choice == nullptr) return;
  dialog.tool_choice = *choice;
  if (!choice->is_object()) return;
  Fields named(*choice, "tool_choice.");
  if (named.string("type").value_or("") != "function")
    named.fail("type", "only \"function\" is supported", "unsupported");
  dialog.tool_choice = {{"type", "function"}, {"function", {{"name", named.string("name").value_or("")}}}};
}

struct ResponseRequest {
  GenerationRequest generation;
  DialogRequest dialog;
  OrderedJson messages;  ///< without the instructions
  OrderedJson shown;     ///< the response object without its answer
  std::string id;
  std::string api_key;
  std::vector<Header> headers;
  bool stream = false;
  bool store = true;
};

/// The key that the client showed.
std::string api_key_of(const Exchange& exchange) {
  const std::string_view bearer = exchange.request().header("Authorization");
  return std::string(bearer.empty() ? exchange.request().header("X-Api-Key") : bearer);
}

ResponseStore::Entry stored(const Service& service, const Exchange& exchange, const std::string& id,
                            const char* param) {
  const std::optional<ResponseStore::Entry> found = service.responses().get(id);
  if (!found || (!service.options().api_keys.empty() && found->api_key != api_key_of(exchange)))
    throw ApiError(404, fmt::format("Response with id '{}' not found.", text::one_line(id, 200)), param,
                   "response_not_found");
  return *found;
}

OrderedJson value_or_null(Fields& fields, const char* name) {
  const OrderedJson* found = fields.find(name);
  return found == nullptr ? OrderedJson() : *found;
}

ResponseRequest read_response_request(const OrderedJson& body, const Service& service,
                                      const Exchange& exchange) {
  Fields fields(body);
  check_model(service, fields);
  ResponseRequest request;
  request.id = response_id(fields, exchange, "resp_");
  request.api_key = api_key_of(exchange);
  request.stream = fields.boolean("stream").value_or(false);
  request.store = fields.boolean("store").value_or(true);
  read_sampling(fields, service, request.generation);
  engine::SamplingParams& params = request.generation.common.sampling;
  const auto most = fields.integer("max_output_tokens", 1, kMostTokens);
  params.max_tokens = most.value_or(kMostTokens);
  if (params.temperature > 2) fields.fail("temperature", "0 to 2 expected");
  check_sampling(fields, service, params);
  if (request.generation.choices != 1) fields.fail("n", "one answer a request");
  fields.refuse("background", "responses are made while the client waits");
  fields.refuse("conversation", "use previous_response_id");
  fields.refuse("prompt", "this server keeps no prompts");
  fields.refuse("context_management", "the context is used as it is");
  if (fields.string("truncation").value_or("disabled") != "disabled")
    fields.fail("truncation", "only \"disabled\" is supported", "unsupported");
  fields.ignore({"include", "max_tool_calls", "stream_options", "top_logprobs"});

  Dialog dialog;
  const std::optional<std::string> previous = fields.string("previous_response_id");
  request.messages = OrderedJson::array();
  if (previous)
    request.messages =
        parse_ordered_json(stored(service, exchange, *previous, "previous_response_id").messages, "stored");
  const OrderedJson* input = fields.find("input");
  if (input == nullptr) refuse("input", "is missing");
  if (input->is_string())
    request.messages.push_back({{"role", "user"}, {"content", *input}});
  else if (input->is_array())
    add_items(*input, request.messages);
  else
    refuse("input", fmt::format("a string or a list of items expected, found {}", type_of(*input)));
  const std::optional<std::string> instructions = fields.string("instructions");
  if (instructions) dialog.messages.push_back({{"role", "system"}, {"content", *instructions}});
  for (const OrderedJson& message : request.messages) dialog.messages.push_back(message);
  read_tools_of(fields, dialog);
  OrderedJson reasoning = {{"effort", nullptr}, {"summary", nullptr}};
  if (const OrderedJson* object = fields.object("reasoning")) {
    Fields inner(*object, "reasoning.");
    if (auto effort = inner.string("effort", 64)) {
      reasoning["effort"] = *effort;
      dialog.reasoning_effort = std::move(*effort);
    }
    inner.ignore({"summary", "generate_summary"});
  }
  if (const OrderedJson* kwargs = fields.object("chat_template_kwargs")) dialog.template_kwargs = *kwargs;
  std::optional<ContentFormat> format;
  OrderedJson text = {{"format", {{"type", "text"}}}};
  if (const OrderedJson* object = fields.object("text")) {
    Fields inner(*object, "text.");
    if (const OrderedJson* wanted = inner.object("format")) {
      format = read_format(*wanted, "text.format");
      text["format"] = *wanted;
    }
    inner.ignore({"verbosity"});
  }
  request.dialog = prepare_dialog(service, dialog, std::move(format), request.generation);
  service.check_answer_length(most, request.generation.prompts.front().size(), "max_output_tokens");
  request.shown = {{"id", request.id},
                   {"object", "response"},
                   {"created_at", unix_seconds()},
                   {"status", "in_progress"},
                   {"background", false},
                   {"error", nullptr},
                   {"incomplete_details", nullptr},
                   {"instructions", instructions ? OrderedJson(*instructions) : OrderedJson()},
                   {"max_output_tokens", most ? OrderedJson(*most) : OrderedJson()},
                   {"model", service.model_name()},
                   {"output", OrderedJson::array()},
                   {"parallel_tool_calls", request.dialog.tools.parallel_calls},
                   {"previous_response_id", previous ? OrderedJson(*previous) : OrderedJson()},
                   {"reasoning", std::move(reasoning)},
                   {"store", request.store},
                   {"temperature", params.temperature},
                   {"text", std::move(text)},
                   {"tool_choice", body.value("tool_choice", OrderedJson("auto"))},
                   {"tools", body.value("tools", OrderedJson::array())},
                   {"top_p", params.top_p},
                   {"truncation", "disabled"},
                   {"usage", nullptr},
                   {"user", value_or_null(fields, "user")},
                   {"metadata", body.value("metadata", OrderedJson::object())}};
  request.headers = ignored_header(fields);
  return request;
}

/// An answer as output items; each is open until another kind of piece comes.
class ResponseAnswer {
 public:
  ResponseAnswer(std::shared_ptr<Service> service, ExchangePtr exchange, ResponseRequest request)
      : service_(std::move(service)),
        exchange_(std::move(exchange)),
        request_(std::move(request)),
        parser_(*service_, request_.dialog.tools, request_.dialog.prompt),
        events_(exchange_, request_.headers) {}

  GenerationRequest take_generation() { return std::move(request_.generation); }

  void hear(const engine::RequestUpdate& update) {
    const bool failed = update.finished && (update.error || update.reason == engine::FinishReason::kAborted);
    if (failed && !begun_) return exchange_->respond(error_response(failed_answer(update)));
    if (!begun_ && (update.finished || !update.tokens.empty())) begin();
    if (!failed)
      for (const ChatDelta& delta : parser_.take(update)) add(delta);
    if (update.finished) finish(update, failed);
  }

 private:
  OrderedJson& response() { return request_.shown; }

  void send(const char* type, const OrderedJson& fields) {
    if (!request_.stream) return;
    OrderedJson event = {{"type", type}, {"sequence_number", sequence_++}};
    event.update(fields);
    events_.send(type, event);
  }

  void begin() {
    begun_ = true;
    send("response.created", {{"response", response()}});
    send("response.in_progress", {{"response", response()}});
  }

  std::size_t index() const { return items_.size() - 1; }
  std::string id() const { return items_.back()["id"].get<std::string>(); }
  bool is_open(const char* type) const { return open_ && items_.back()["type"] == type; }

  /// An event about the text part of the open item.
  void part(const char* type, const OrderedJson& fields) {
    OrderedJson event = {{"item_id", id()}, {"output_index", index()}, {"content_index", 0}};
    event.update(fields);
    send(type, event);
  }

  void open(OrderedJson item) {
    close("completed");
    open_ = true;
    text_.clear();
    items_.push_back(std::move(item));
    send("response.output_item.added", {{"output_index", index()}, {"item", items_.back()}});
  }

  static OrderedJson output_text(const std::string& text) {
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", OrderedJson::array()},
            {"logprobs", OrderedJson::array()}};
  }
  static OrderedJson reasoning_text(const std::string& text) {
    return {{"type", "reasoning_text"}, {"text", text}};
  }

  void close(const char* status) {
    if (!std::exchange(open_, false)) return;
    OrderedJson& item = items_.back();
    if (item["type"] == "message") {
      part("response.output_text.done", {{"text", text_}, {"logprobs", OrderedJson::array()}});
      item["content"] = OrderedJson::array({output_text(text_)});
      part("response.content_part.done", {{"part", item["content"][0]}});
    } else if (item["type"] == "reasoning") {
      part("response.reasoning_text.done", {{"text", text_}});
      item["content"] = OrderedJson::array({reasoning_text(text_)});
      part("response.content_part.done", {{"part", item["content"][0]}});
    } else {
      item["arguments"] = text_;
      send("response.function_call_arguments.done",
           {{"item_id", id()}, {"output_index", index()}, {"name", item["name"]}, {"arguments", text_}});
    }
    item["status"] = status;
    send("response.output_item.done", {{"output_index", index()}, {"item", item}});
  }

  void add(const ChatDelta& piece) {
    switch (piece.kind) {
      case ChatDelta::Kind::kReasoning:
        if (!is_open("reasoning")) {
          open({{"id", random_id("rs_")},
                {"type", "reasoning"},
                {"summary", OrderedJson::array()},
                {"content", OrderedJson::array()},
                {"status", "in_progress"}});
          part("response.content_part.added", {{"part", reasoning_text("")}});
        }
        text_ += piece.text;
        return part("response.reasoning_text.delta", {{"delta", piece.text}});
      case ChatDelta::Kind::kContent:
        if (!is_open("message")) {
          open({{"id", random_id("msg_")},
                {"type", "message"},
                {"role", "assistant"},
                {"content", OrderedJson::array()},
                {"status", "in_progress"}});
          part("response.content_part.added", {{"part", output_text("")}});
        }
        text_ += piece.text;
        return part("response.output_text.delta",
                    {{"delta", piece.text}, {"logprobs", OrderedJson::array()}});
      case ChatDelta::Kind::kToolCall:
        return open({{"id", random_id("fc_")},
                     {"type", "function_call"},
                     {"call_id", piece.id.empty() ? random_id("call_") : piece.id},
                     {"name", piece.text},
                     {"arguments", ""},
                     {"status", "in_progress"}});
      case ChatDelta::Kind::kToolArguments:
        text_ += piece.text;
        return send("response.function_call_arguments.delta",
                    {{"item_id", id()}, {"output_index", index()}, {"delta", piece.text}});
    }
  }

  void finish(const engine::RequestUpdate& update, bool failed) {
    const bool cut = failed || update.reason == engine::FinishReason::kLength;
    close(cut ? "incomplete" : "completed");
    OrderedJson& shown = response();
    shown["output"] = items_;
    shown["status"] = failed ? "failed" : cut ? "incomplete" : "completed";
    if (failed) {
      shown["error"] = {{"code", "server_error"}, {"message", failed_answer(update).message}};
    } else if (cut) {
      shown["incomplete_details"] = {{"reason", "max_output_tokens"}};
    }
    shown["usage"] = {
        {"input_tokens", update.usage.prompt_tokens},
        {"input_tokens_details", {{"cached_tokens", update.usage.cached_tokens}, {"cache_write_tokens", 0}}},
        {"output_tokens", update.usage.completion_tokens},
        {"output_tokens_details", {{"reasoning_tokens", parser_.reasoning_tokens()}}},
        {"total_tokens", update.usage.prompt_tokens + update.usage.completion_tokens}};
    if (request_.store && !failed) keep();
    if (!request_.stream) {
      Response http = json_response(shown);
      http.headers = request_.headers;
      return exchange_->respond(std::move(http));
    }
    send(failed ? "response.failed"
         : cut  ? "response.incomplete"
                : "response.completed",
         {{"response", shown}});
    events_.end();
  }

  void keep() {
    OrderedJson messages = std::move(request_.messages);
    add_items(items_, messages);
    service_->responses().put(request_.id, {dump(response()), dump(messages), request_.api_key});
  }

  const std::shared_ptr<Service> service_;
  const ExchangePtr exchange_;
  ResponseRequest request_;
  AnswerParser parser_;
  EventStream events_;
  OrderedJson items_ = OrderedJson::array();
  std::string text_;  ///< of the open item
  std::int64_t sequence_ = 0;
  bool open_ = false;
  bool begun_ = false;
};

/// The {id} of a path below /v1/responses.
std::string id_of(const Exchange& exchange) {
  constexpr std::string_view kPrefix = "/v1/responses/";
  const std::string_view rest = std::string_view(exchange.request().path).substr(kPrefix.size());
  return std::string(rest.substr(0, rest.find('/')));
}

}  // namespace

void handle_responses(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const OrderedJson body = read_body(*exchange);
  auto answer =
      std::make_shared<ResponseAnswer>(service, exchange, read_response_request(body, *service, *exchange));
  start_generation(service, answer->take_generation(), exchange,
                   [answer](std::size_t, const engine::RequestUpdate& update) { answer->hear(update); });
}

void handle_response_get(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  Response response;
  response.body = stored(*service, *exchange, id_of(*exchange), "response_id").response;
  exchange->respond(std::move(response));
}

void handle_response_delete(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const std::string id = id_of(*exchange);
  stored(*service, *exchange, id, "response_id");
  service->responses().erase(id);
  exchange->respond(json_response({{"id", id}, {"object", "response"}, {"deleted", true}}));
}

void handle_response_cancel(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const std::string id = id_of(*exchange);
  stored(*service, *exchange, id, "response_id");
  throw ApiError(400,
                 "Only a response in the background can be cancelled; this server ends an answer when its "
                 "client leaves.",
                 "response_id", "unsupported");
}

}  // namespace sabrewing::server
