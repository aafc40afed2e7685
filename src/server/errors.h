#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "core/error.h"
#include "server/http.h"

namespace sabrewing::server {

/// A request that is refused: an HTTP status and the members of OpenAI's error object.
struct ApiError : std::exception {
  int status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::string param;  ///< empty: null
  std::string code;   ///< empty: null
  std::string allow;  ///< the methods that a route takes, for the header Allow

  ApiError(int its_status, std::string its_message, std::string its_param = {}, std::string its_code = {});
  const char* what() const noexcept override { return message.c_str(); }
};

/// Throws `ApiError{400}` with the message "path: why" and `path` as `param`.
[[noreturn]] void refuse(const std::string& path, std::string_view why, std::string code = {});

/// The error as a route reports it: wrong values and unsupported ones are 400, our faults 500.
ApiError to_api_error(const Error& error);
/// The exception being handled, whatever it is. Call in a catch block.
ApiError current_api_error();

/// {"error": {"message", "type", "param", "code"}} in one line.
std::string error_body(const ApiError& error);
/// With Retry-After for 503 and WWW-Authenticate for 401.
Response error_response(const ApiError& error);

}  // namespace sabrewing::server
