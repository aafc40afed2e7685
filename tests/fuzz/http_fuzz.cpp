// Feeds bytes to the HTTP parser in pieces whose sizes come from the input: the result must not depend on
// them.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/http_parser.h"

namespace {

using namespace sabrewing::server;

struct Outcome {
  int refused = 0;
  bool done = false;
  std::size_t rest = 0;
  Request request;
};

Outcome parse(std::string_view bytes, std::size_t step) {
  HttpLimits limits;
  limits.header_bytes = 512;
  limits.header_fields = 8;
  limits.body_bytes = 256;
  RequestParser parser(limits);
  std::string held;
  Outcome outcome;
  for (std::size_t at = 0; at < bytes.size() && !parser.done() && !parser.refusal(); at += step) {
    held += bytes.substr(at, step);
    const std::size_t taken = parser.feed(held);
    if (taken > held.size()) __builtin_trap();
    held.erase(0, taken);
  }
  if (parser.refusal()) outcome.refused = parser.refusal()->status;
  outcome.done = parser.done();
  if (outcome.refused != 0 && (outcome.refused < 400 || outcome.done)) __builtin_trap();
  if (parser.header_done() && parser.body_bytes() > limits.body_bytes && outcome.refused == 0)
    __builtin_trap();
  if (outcome.done) {
    outcome.request = parser.take();
    if (outcome.request.body.size() > limits.body_bytes) __builtin_trap();
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Outcome whole = parse(bytes, bytes.size() + 1);
  const Outcome pieces = parse(bytes, 1 + data[0] % 32);
  if (whole.done && pieces.done &&
      (whole.request.body != pieces.request.body || whole.request.path != pieces.request.path ||
       whole.request.headers.size() != pieces.request.headers.size()))
    __builtin_trap();
  return 0;
}
