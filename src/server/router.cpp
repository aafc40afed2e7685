#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "core/log.h"
#include "server/errors.h"
#include "server/routes.h"
#include "text/utf8.h"

namespace sabrewing::server {
namespace {

constexpr std::string_view kMethods = "GET, POST, DELETE, OPTIONS";

/// Takes as long for a wrong key as for the right one.
bool equal_in_constant_time(std::string_view given, std::string_view key) {
  std::size_t difference = given.size() ^ key.size();
  for (std::size_t i = 0; i < given.size(); ++i)
    difference |= static_cast<unsigned char>(given[i] ^ (key.empty() ? '\0' : key[i % key.size()]));
  return difference == 0;
}

bool authorized(const ServiceOptions& options, const Request& request) {
  if (options.api_keys.empty()) return true;
  std::string_view given = request.header("Authorization");
  constexpr std::string_view kBearer = "Bearer ";
  if (given.starts_with(kBearer))
    given.remove_prefix(kBearer.size());
  else
    given = request.header("X-Api-Key");
  bool found = false;
  for (const std::string& key : options.api_keys) found |= equal_in_constant_time(given, key);
  return found;
}

/// The CORS headers of an answer to `request`; none unless its origin is allowed.
std::vector<Header> cors_headers(const ServiceOptions& options, const Request& request) {
  const std::string_view origin = request.header("Origin");
  if (origin.empty() || options.allowed_origins.empty()) return {};
  for (const std::string& allowed : options.allowed_origins)
    if (allowed == "*" || allowed == origin)
      return {{"Access-Control-Allow-Origin", allowed}, {"Vary", "Origin"}};
  return {};
}

/// Adds headers to whatever answer comes.
class WithHeaders final : public Exchange {
 public:
  WithHeaders(ExchangePtr inner, std::vector<Header> headers)
      : Exchange({}), inner_(std::move(inner)), headers_(std::move(headers)) {}

  const Request& request() const override { return inner_->request(); }
  void drop_body() override { inner_->drop_body(); }
  void respond(Response response) override {
    add(response);
    inner_->respond(std::move(response));
  }
  void begin_stream(Response head) override {
    add(head);
    inner_->begin_stream(std::move(head));
  }
  void write(std::string text) override { inner_->write(std::move(text)); }
  void end_stream() override { inner_->end_stream(); }
  void post(std::function<void()> task) override { inner_->post(std::move(task)); }
  void on_gone(std::function<void()> callback) override { inner_->on_gone(std::move(callback)); }

 private:
  void add(Response& response) const {
    response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
  }
  ExchangePtr inner_;
  std::vector<Header> headers_;
};

Response preflight(std::vector<Header> cors) {
  Response response;
  response.status = 204;
  response.content_type.clear();
  response.headers = std::move(cors);
  response.headers.push_back({"Access-Control-Allow-Methods", std::string(kMethods)});
  response.headers.push_back({"Access-Control-Allow-Headers",
                              "Authorization, Content-Type, X-Api-Key, X-Request-Id, anthropic-version"});
  response.headers.push_back({"Access-Control-Max-Age", "600"});
  return response;
}

bool matches(std::string_view pattern, std::string_view path) {
  constexpr std::string_view kId = "{id}";
  const std::size_t at = pattern.find(kId);
  if (at == std::string_view::npos) return pattern == path;
  const std::string_view tail = pattern.substr(at + kId.size());
  if (path.size() <= at + tail.size() || path.substr(0, at) != pattern.substr(0, at) || !path.ends_with(tail))
    return false;
  return path.substr(at, path.size() - at - tail.size()).find('/') == std::string_view::npos;
}

/// The route of a request, or the refusal.
const Route& find_route(const Service& service, const Request& request) {
  std::string allowed;
  const Route* found = nullptr;
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  for (const Route& route : routes()) {
    if (!matches(route.path, request.path)) continue;
    if (route.method == method) found = &route;
    allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
  }
  // Whoever has no key learns nothing about routes.
  if ((found == nullptr || !found->open) && !authorized(service.options(), request)) {
    throw ApiError(401, "Incorrect API key provided.", {}, "invalid_api_key");
  }
  if (found != nullptr) return *found;
  const std::string path = text::one_line(request.path, 200);
  if (allowed.empty()) throw ApiError(404, fmt::format("there is no route {}", path), {}, "not_found");
  ApiError error(405, fmt::format("{} takes {}", path, allowed), {}, "method_not_allowed");
  error.allow = std::move(allowed);
  throw error;
}

}  // namespace

const std::vector<Route>& routes() {
  static const std::vector<Route> table = {
      {"GET", "/", handle_page, true},
      {"GET", "/health", handle_health, true},
      {"GET", "/ping", handle_health, true},
      {"POST", "/ping", handle_health, true},
      {"GET", "/ready", handle_ready, true},
      {"GET", "/version", handle_version},
      {"GET", "/v1/models", handle_models},
      {"GET", "/server_info", handle_server_info},
      {"GET", "/tokenizer_info", handle_tokenizer_info},
      {"GET", "/metrics", handle_metrics},
      {"POST", "/tokenize", handle_tokenize},
      {"POST", "/detokenize", handle_detokenize},
      {"POST", "/v1/completions", handle_completions},
      {"POST", "/v1/chat/completions", handle_chat},
      {"POST", "/v1/responses", handle_responses},
      {"GET", "/v1/responses/{id}", handle_response_get},
      {"DELETE", "/v1/responses/{id}", handle_response_delete},
      {"POST", "/v1/responses/{id}/cancel", handle_response_cancel},
      {"POST", "/v1/messages", handle_messages},
      {"POST", "/v1/messages/count_tokens", handle_count_tokens},
  };
  return table;
}

void dispatch(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const Request& request = exchange->request();
  std::vector<Header> cors = cors_headers(service->options(), request);
  ExchangePtr out = exchange;
  try {
    if (request.method == "OPTIONS" && !cors.empty()) return exchange->respond(preflight(std::move(cors)));
    if (!cors.empty()) out = std::make_shared<WithHeaders>(exchange, std::move(cors));
    find_route(*service, request).handler(service, out);
  } catch (...) {
    respond_error(*out, current_api_error());
  }
}

void respond_error(Exchange& exchange, const ApiError& error) {
  const bool anthropic = exchange.request().path.starts_with("/v1/messages");
  Response response = anthropic ? messages_error(error) : error_response(error);
  if (!error.allow.empty()) response.headers.push_back({"Allow", error.allow});
  exchange.respond(std::move(response));
}

}  // namespace sabrewing::server
