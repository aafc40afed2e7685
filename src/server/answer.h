#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "server/errors.h"
#include "server/sampling_fields.h"
#include "server/service.h"

namespace sabrewing::server {

/// What the routes that generate share.

/// "stop", "length", "abort"; null while the answer goes on.
OrderedJson finish_reason(const engine::RequestUpdate& update);
/// The stop string or stop token that ended the answer, or null.
OrderedJson stop_reason(const engine::RequestUpdate& update);

/// Adds up the usage of several answers.
class UsageSum {
 public:
  /// `choices` answers belong to each prompt, which counts once.
  UsageSum(std::size_t answers, std::int64_t choices) : latest_(answers), choices_(choices) {}
  void update(std::size_t index, const engine::Usage& usage) { latest_[index] = usage; }
  engine::Usage total() const;
  engine::Usage of(std::size_t index) const { return latest_[index]; }

 private:
  std::vector<engine::Usage> latest_;
  std::int64_t choices_;
};

/// OpenAI's usage object.
OrderedJson usage_json(const engine::Usage& usage);

/// Server-sent events of one answer: `data: ...` lines. The head goes out with the first of them, so that an
/// error before it is still a status.
class EventStream {
 public:
  EventStream(ExchangePtr exchange, std::vector<Header> headers)
      : exchange_(std::move(exchange)), headers_(std::move(headers)) {}

  void send(const OrderedJson& data);
  /// With an "event: name" line before it.
  void send(std::string_view name, const OrderedJson& data);
  /// The error as an event, or as the response when nothing was sent yet. What is sent after it is dropped.
  void fail(const ApiError& error);
  /// "data: [DONE]" and the end.
  void done();
  /// The end without it.
  void end();

 private:
  void begin();

  ExchangePtr exchange_;
  std::vector<Header> headers_;
  bool begun_ = false;
  bool ended_ = false;
};

/// The error of an answer that ended with `kError`, or that the shut-down aborted.
ApiError failed_answer(const engine::RequestUpdate& update);

}  // namespace sabrewing::server
