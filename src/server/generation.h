#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/http.h"
#include "server/service.h"
#include "text/grammar.h"

namespace sabrewing::server {

/// One request as the engine is to run it, whatever route it came by: every prompt, `choices` times.
struct GenerationRequest {
  std::vector<std::vector<std::int32_t>> prompts;
  std::int64_t choices = 1;
  engine::Request common;  ///< everything but prompt and mask; with a seed choice i samples by seed + i
  /// What the answers have to match.
  struct Restriction {
    text::GrammarSpec grammar;
    std::vector<std::int32_t> marker;  ///< the grammar applies behind these tokens; none: from the start
    std::string field;                 ///< of the request, for refusals
  };
  std::optional<Restriction> restriction;
};

/// Hears of answer `index` = prompt * choices + choice, on the client's thread, in order; until every answer
/// has had one update with `finished`.
using GenerationListener = std::function<void(std::size_t index, const engine::RequestUpdate& update)>;

/// Submits every answer. When the client leaves, all are aborted, and the listener still hears of their end.
/// Throws `ApiError` when the engine refuses one (503: no room, or shutting down); the listener is then
/// never called and nothing runs on. A grammar that is not compiled yet is compiled on a thread of its own,
/// which then submits; what it refuses becomes the answer of the exchange.
void start_generation(const std::shared_ptr<Service>& service, GenerationRequest request,
                      const ExchangePtr& exchange, GenerationListener listener);

}  // namespace sabrewing::server
