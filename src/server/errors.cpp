#include "server/errors.h"

#include <new>

#include "core/json.h"
#include "core/log.h"

namespace sabrewing::server {
namespace {

/// Without the "[operation] " that messages of the library begin with.
std::string without_operation(const std::string& message) {
  if (message.empty() || message[0] != '[') return message;
  const std::size_t end = message.find("] ");
  return end == std::string::npos ? message : message.substr(end + 2);
}

}  // namespace

ApiError::ApiError(int its_status, std::string its_message, std::string its_param, std::string its_code)
    : status(its_status),
      message(std::move(its_message)),
      type(its_status >= 500 ? "server_error" : "invalid_request_error"),
      param(std::move(its_param)),
      code(std::move(its_code)) {}

void refuse(const std::string& path, std::string_view why, std::string code) {
  throw ApiError(400, fmt::format("{}: {}", path, why), path, std::move(code));
}

ApiError to_api_error(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kInvalidArgument:
      return {400, without_operation(error.what())};
    case ErrorCode::kUnsupported:
      return {400, without_operation(error.what()), {}, "unsupported"};
    default:
      return {500, without_operation(error.what())};
  }
}

ApiError current_api_error() {
  try {
    throw;
  } catch (const ApiError& error) {
    return error;
  } catch (const Error& error) {
    return to_api_error(error);
  } catch (const std::bad_alloc&) {
    return {503, "not enough memory for this request"};
  } catch (const std::exception& error) {
    log(LogLevel::kError, "internal error: {}", error.what());
    return {500, "internal error"};
  }
}

std::string error_body(const ApiError& error) {
  const auto or_null = [](const std::string& text) {
    return text.empty() ? OrderedJson() : OrderedJson(text);
  };
  return OrderedJson({{"error",
                       {{"message", error.message},
                        {"type", error.type},
                        {"param", or_null(error.param)},
                        {"code", or_null(error.code)}}}})
      .dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

Response error_response(const ApiError& error) {
  Response response;
  response.status = error.status;
  response.body = error_body(error);
  if (error.status == 503) response.headers.push_back({"Retry-After", "1"});
  if (error.status == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

}  // namespace sabrewing::server
