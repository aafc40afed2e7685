// POST /tokenize and /detokenize.
#include <fmt/core.h>

#include "server/chat_messages.h"
#include "server/errors.h"
#include "server/routes.h"

namespace sabrewing::server {
namespace {

constexpr std::size_t kMostIds = std::size_t{1} << 20;

}  // namespace

void handle_tokenize(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const OrderedJson body = read_body(*exchange);
  Fields fields(body);
  check_model(*service, fields);
  const bool chat = fields.find("messages") != nullptr;
  const bool special = fields.boolean("add_special_tokens").value_or(!chat);
  std::vector<std::int32_t> ids;
  if (chat) {
    OrderedJson tools;
    if (const OrderedJson* list = fields.array("tools"); list != nullptr && !list->empty()) {
      check_tools(*list);
      tools = *list;
    }
    ids = render_chat(fields, *service, read_messages(fields), tools, special).ids;
  } else {
    const auto text = fields.string("prompt");
    if (!text) throw ApiError(400, "prompt: a string expected, or messages", "prompt");
    ids = service->encode(*text, special, "prompt");
  }
  OrderedJson answer = {
      {"count", ids.size()}, {"max_model_len", service->engine().max_context()}, {"tokens", ids}};
  answer["token_strs"] = nullptr;
  if (fields.boolean("return_token_strs").value_or(false)) {
    answer["token_strs"] = OrderedJson::array();
    for (const std::int32_t id : ids) answer["token_strs"].push_back(service->token_text(id));
  }
  Response response = json_response(answer);
  response.headers = ignored_header(fields);
  exchange->respond(std::move(response));
}

void handle_detokenize(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const OrderedJson body = read_body(*exchange);
  Fields fields(body);
  check_model(*service, fields);
  const auto ids = fields.ids("tokens", kMostIds);
  if (!ids) throw ApiError(400, "tokens: a list of token ids expected", "tokens");
  const text::Tokenizer& tokenizer = service->tokenizer("tokens");
  for (const std::int32_t id : *ids)
    if (!tokenizer.has_token(id)) fields.fail("tokens", fmt::format("there is no token {}", id));
  Response response = json_response({{"prompt", tokenizer.decode(*ids, false)}});
  response.headers = ignored_header(fields);
  exchange->respond(std::move(response));
}

}  // namespace sabrewing::server
