#include "server/answer.h"

#include <utility>

namespace sabrewing::server {

OrderedJson finish_reason(const engine::RequestUpdate& update) {
  if (!update.finished) return nullptr;
  return std::string(engine::to_string(update.reason));
}

OrderedJson stop_reason(const engine::RequestUpdate& update) {
  if (update.stop_string) return *update.stop_string;
  if (update.stop_token) return *update.stop_token;
  return nullptr;
}

engine::Usage UsageSum::total() const {
  engine::Usage sum;
  for (std::size_t i = 0; i < latest_.size(); ++i) {
    sum.completion_tokens += latest_[i].completion_tokens;
    if (i % static_cast<std::size_t>(choices_) != 0) continue;
    sum.prompt_tokens += latest_[i].prompt_tokens;
    sum.cached_tokens += latest_[i].cached_tokens;
  }
  return sum;
}

OrderedJson usage_json(const engine::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

void EventStream::begin() {
  if (std::exchange(begun_, true)) return;
  Response head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers = std::move(headers_);
  head.headers.push_back({"Cache-Control", "no-cache"});
  // Proxies that collect answers would undo the streaming.
  head.headers.push_back({"X-Accel-Buffering", "no"});
  exchange_->begin_stream(std::move(head));
}

void EventStream::send(const OrderedJson& data) {
  if (ended_) return;
  begin();
  exchange_->write("data: " + dump(data) + "\n\n");
}

void EventStream::send(std::string_view name, const OrderedJson& data) {
  if (ended_) return;
  begin();
  exchange_->write("event: " + std::string(name) + "\ndata: " + dump(data) + "\n\n");
}

void EventStream::fail(const ApiError& error) {
  if (ended_) return;
  if (!begun_) {
    ended_ = true;
    return exchange_->respond(error_response(error));
  }
  exchange_->write("data: " + error_body(error) + "\n\n");
  end();
}

void EventStream::done() {
  if (ended_) return;
  begin();
  exchange_->write("data: [DONE]\n\n");
  end();
}

void EventStream::end() {
  if (std::exchange(ended_, true)) return;
  begin();
  exchange_->end_stream();
}

ApiError failed_answer(const engine::RequestUpdate& update) {
  if (update.error) return {500, to_api_error(*update.error).message};
  return {503, "the server is shutting down"};
}

}  // namespace sabrewing::server
