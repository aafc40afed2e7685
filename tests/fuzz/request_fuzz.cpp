// Feeds request bodies to the routes that generate and tokenize, over a small model. Every request must get
// one well-formed answer; the client leaves as soon as the engine has the request.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "../server/server_fixture.h"
#include "core/error.h"

namespace {

using namespace sabrewing;
using namespace sabrewing::server;

const ServedModel& served() {
  static const ServedModel model = [] {
    ServiceOptions options = qwen3_options();
    // The longest answers of one request must take a fraction of a second, sanitized.
    options.max_choices = 4;
    engine::EngineOptions engine;
    engine.max_context = 256;
    return ServedModel("mini-qwen3", options, engine);
  }();
  return model;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  constexpr const char* kPaths[] = {"/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"};
  Request request;
  request.method = "POST";
  request.path = kPaths[data[0] % 4];
  request.body.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto exchange = std::make_shared<FakeExchange>(std::move(request));
  dispatch(served().service, exchange);
  if (data[0] % 8 < 4) exchange->leave();
  exchange->wait();
  if (exchange->responses != 1) __builtin_trap();
  if (exchange->streamed) {
    events_of(exchange->body);
  } else {
    const OrderedJson answer = parse_ordered_json(exchange->body, "answer");
    if (answer.contains("error") == (exchange->head.status == 200)) __builtin_trap();
  }
  // A fault of ours would be hidden in a 500; the engine's own refusals are not.
  if (exchange->head.status == 500 && exchange->body.find("every logit is") == std::string::npos)
    __builtin_trap();
  return 0;
}
