#include "core/error.h"
#include "text/grammar_backend.h"

namespace sabrewing::text {

bool grammar_supported() { return false; }

std::unique_ptr<GrammarBackend> make_grammar_backend(const Tokenizer&, std::span<const std::int32_t>,
                                                     std::int64_t, const GrammarLimits&) {
  fail(ErrorCode::kUnsupported,
       "[grammar] structured output is not in this build: configure with -DSABREWING_WITH_XGRAMMAR=ON");
}

}  // namespace sabrewing::text
