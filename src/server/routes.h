#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "server/http.h"
#include "server/service.h"

namespace sabrewing::server {

/// Answers one request, now or later through `exchange`. Runs on a worker thread. What it throws becomes the
/// error response, unless it has answered already.
using RouteHandler = void (*)(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);

struct Route {
  std::string_view method;
  std::string_view path;  ///< "{id}" stands for one part
  RouteHandler handler;
  bool open = false;  ///< needs no API key
};

/// Every route of the server.
const std::vector<Route>& routes();

void handle_health(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_ready(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_version(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_models(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_page(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_tokenizer_info(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_server_info(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_metrics(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_tokenize(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_detokenize(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_completions(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_chat(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_responses(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_response_get(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_response_delete(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_response_cancel(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_messages(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);
void handle_count_tokens(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);

struct ApiError;
/// Answers with the error in the form of the route's protocol.
void respond_error(Exchange& exchange, const ApiError& error);
/// The error as Anthropic's clients expect it: {"type": "error", "error": {"type", "message"}}.
Response messages_error(const ApiError& error);

/// Checks key, path and method of a request, runs its route and answers with the error where one is due.
void dispatch(const std::shared_ptr<Service>& service, const ExchangePtr& exchange);

}  // namespace sabrewing::server
