#include <dlpack/dlpack.h>
#include <xgrammar/xgrammar.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <new>
#include <stdexcept>
#include <utility>

#include "core/error.h"
#include "text/grammar_backend.h"
#include "text/json_schema.h"
#include "text/utf8.h"

namespace {

/// Where a compilation of this thread collects xgrammar's warnings: each is a constraint that it drops.
thread_local std::vector<std::string>* warnings = nullptr;

struct CollectWarnings {
  explicit CollectWarnings(std::vector<std::string>& into) { warnings = &into; }
  ~CollectWarnings() { warnings = nullptr; }
  CollectWarnings(const CollectWarnings&) = delete;
  CollectWarnings& operator=(const CollectWarnings&) = delete;
};

}  // namespace

// xgrammar is built with XGRAMMAR_LOG_CUSTOMIZE, which leaves these two to its user.
// NOLINTBEGIN(readability-identifier-naming)
namespace xgrammar {

[[noreturn]] void LogFatalImpl(const std::string&, int, const std::string& message) {
  throw std::runtime_error(message);
}

void LogMessageImpl(const std::string&, int, int, const std::string& message) {
  if (warnings != nullptr) warnings->push_back(message);
}

}  // namespace xgrammar
// NOLINTEND(readability-identifier-naming)

namespace sabrewing::text {
namespace {

/// A special token's text for xgrammar: a byte that UTF-8 does not have, so that no literal or character
/// class matches it and only a token named by its id does.
constexpr const char* kSpecialText = "\xFF";

/// xgrammar's message on one line, without the source of the failed check.
std::string reason(std::string message) {
  static constexpr std::string_view kCheck = "is false: ";
  if (message.starts_with("Check failed") || message.starts_with("Internal check failed")) {
    const auto end = message.find(kCheck);
    if (end != std::string::npos) message.erase(0, end + kCheck.size());
  }
  message.erase(message.find_last_not_of(" \n") + 1);
  std::replace(message.begin(), message.end(), '\n', ' ');
  constexpr std::size_t kLongest = 500;
  return message.empty() ? "refused without a reason" : one_line(message, kLongest);
}

/// One bit per token.
using Mask = std::vector<std::uint32_t>;

void set(Mask& mask, std::int32_t id) {
  mask[static_cast<std::size_t>(id) / 32] |= std::uint32_t{1} << (static_cast<std::uint32_t>(id) % 32);
}

bool contains(const Mask& mask, std::int32_t id) {
  const auto word = static_cast<std::size_t>(id) / 32;
  return id >= 0 && word < mask.size() && (mask[word] >> (static_cast<std::uint32_t>(id) % 32) & 1U) != 0;
}

/// What all grammars of a vocabulary share.
struct Vocabulary {
  Mask usable;    ///< exist; xgrammar's masks also have bits beyond the vocabulary
  Mask stops;     ///< end the answer
  Mask controls;  ///< contain a control character that no JSON needs; xgrammar lets it into strings of
                  ///< bounded length
  std::vector<std::int32_t> broken;  ///< begin or end within a character
  GrammarLimits limits;
};

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

class XgrammarMatcher final : public GrammarMatcher {
 public:
  XgrammarMatcher(const xgrammar::CompiledGrammar& grammar, std::shared_ptr<const Vocabulary> vocabulary,
                  bool json, bool counted)
      : matcher_(grammar), vocabulary_(std::move(vocabulary)), json_(json), counted_(counted) {}

  void fill(std::span<std::uint32_t> words) override {
    SABREWING_CHECK(words.size() == vocabulary_->stops.size(), kInvalidArgument,
                    "[grammar] a mask of {} words, expected {}", words.size(), vocabulary_->stops.size());
    if (next_.empty()) compute();
    std::copy(next_.begin(), next_.end(), words.begin());
  }

  bool accept(std::int32_t id) override {
    if (finished_ || (json_ && contains(vocabulary_->controls, id))) return false;
    const double start = processor_seconds();
    const bool accepted = matcher_.AcceptToken(id);
    ++steps_;
    spend(processor_seconds() - start);
    if (!accepted) return false;
    next_.clear();
    if (matcher_.IsTerminated()) {
      finished_ = true;
    } else if (matcher_.IsCompleted()) {
      compute();
      finished_ = true;
      for (std::size_t i = 0; i < next_.size(); ++i)
        finished_ = finished_ && (next_[i] & ~vocabulary_->stops[i]) == 0;
    }
    return true;
  }

  bool finished() const override { return finished_; }

 private:
  void compute() {
    next_.assign(vocabulary_->stops.size(), 0);
    std::array<std::int64_t, 1> shape{static_cast<std::int64_t>(next_.size())};
    DLTensor tensor{};
    tensor.data = next_.data();
    tensor.device = {kDLCPU, 0};
    tensor.ndim = 1;
    tensor.dtype = xgrammar::GetBitmaskDLType();
    tensor.shape = shape.data();
    const double start = processor_seconds();
    matcher_.FillNextTokenBitmask(&tensor);
    for (std::size_t i = 0; i < next_.size(); ++i) {
      next_[i] &= vocabulary_->usable[i];
      if (json_) next_[i] &= ~vocabulary_->controls[i];
    }
    if (counted_) try_broken_tokens();
    spend(processor_seconds() - start);
  }

  /// Within a repetition that is counted the mask has tokens of part of a character that are then rejected.
  void try_broken_tokens() {
    for (const std::int32_t id : vocabulary_->broken) {
      if (!contains(next_, id)) continue;
      if (matcher_.AcceptToken(id))
        matcher_.Rollback(1);
      else
        next_[static_cast<std::size_t>(id) / 32] &=
            ~(std::uint32_t{1} << (static_cast<std::uint32_t>(id) % 32));
    }
  }

  void spend(double seconds) {
    spent_ += seconds;
    const GrammarLimits& limits = vocabulary_->limits;
    SABREWING_CHECK(
        seconds <= limits.max_step_seconds &&
            spent_ <= limits.free_seconds + limits.max_mean_step_seconds * static_cast<double>(steps_),
        kInvalidArgument, "[grammar] too ambiguous: {:.2f} s of processor time after {} tokens", spent_,
        steps_);
  }

  xgrammar::GrammarMatcher matcher_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  bool json_;
  bool counted_;
  Mask next_;  ///< of this position; empty: not computed
  bool finished_ = false;
  double spent_ = 0;
  std::int64_t steps_ = 0;
};

class XgrammarGrammar final : public Grammar {
 public:
  XgrammarGrammar(xgrammar::CompiledGrammar grammar, std::shared_ptr<const Vocabulary> vocabulary,
                  PreparedGrammar source)
      : grammar_(std::move(grammar)),
        vocabulary_(std::move(vocabulary)),
        json_(source.spec.kind == GrammarSpec::Kind::kJsonSchema ||
              source.spec.kind == GrammarSpec::Kind::kJsonObject),
        counted_(source.counted),
        unenforced_(std::move(source.unenforced)),
        bytes_(grammar_.MemorySizeBytes()) {}

  std::unique_ptr<GrammarMatcher> matcher() const override {
    return std::make_unique<XgrammarMatcher>(grammar_, vocabulary_, json_, counted_);
  }
  const std::vector<std::string>& unenforced() const override { return unenforced_; }
  std::size_t bytes() const override { return bytes_; }

 private:
  xgrammar::CompiledGrammar grammar_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  bool json_;
  bool counted_;
  std::vector<std::string> unenforced_;
  std::size_t bytes_;
};

xgrammar::TokenizerInfo tokenizer_info(const Tokenizer& tokenizer, std::span<const std::int32_t> stop_ids,
                                       std::int64_t vocab_size) {
  std::vector<std::string> tokens(static_cast<std::size_t>(vocab_size));
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.has_token(id)) continue;
    tokens[static_cast<std::size_t>(id)] =
        tokenizer.is_special(id) ? kSpecialText : std::string(tokenizer.token_bytes(id));
  }
  return {tokens, xgrammar::VocabType::RAW, static_cast<int>(vocab_size),
          std::vector<std::int32_t>(stop_ids.begin(), stop_ids.end())};
}

class XgrammarBackend final : public GrammarBackend {
 public:
  XgrammarBackend(const Tokenizer& tokenizer, std::span<const std::int32_t> stop_ids, std::int64_t vocab_size,
                  const GrammarLimits& limits)
      : compiler_(tokenizer_info(tokenizer, stop_ids, vocab_size), /*max_threads=*/1,
                  /*cache_enabled=*/false) {
    const auto words = static_cast<std::size_t>(vocab_size + 31) / 32;
    auto masks = std::make_shared<Vocabulary>(Vocabulary{Mask(words), Mask(words), Mask(words), {}, limits});
    for (const std::int32_t id : stop_ids) {
      set(masks->stops, id);
      set(masks->usable, id);
    }
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (!tokenizer.has_token(id)) continue;
      set(masks->usable, id);
      const std::string_view bytes = tokenizer.token_bytes(id);
      if (std::any_of(bytes.begin(), bytes.end(),
                      [](char c) { return c >= 0 && c < ' ' && c != '\n' && c != '\r'; }))
        set(masks->controls, id);
      if (find_invalid_utf8(bytes) && !tokenizer.is_special(id)) masks->broken.push_back(id);
    }
    vocabulary_ = std::move(masks);
  }

  std::shared_ptr<const Grammar> compile(PreparedGrammar grammar) const override {
    std::vector<std::string> dropped;
    try {
      const CollectWarnings collect(dropped);
      xgrammar::GrammarCompiler compiler = compiler_;
      xgrammar::CompiledGrammar compiled = build(compiler, grammar.spec);
      for (std::string& message : dropped) grammar.unenforced.push_back(reason(std::move(message)));
      SABREWING_CHECK(grammar.spec.lenient || grammar.unenforced.empty(), kInvalidArgument,
                      "[grammar] cannot be enforced: {}", grammar.unenforced.front());
      auto result = std::make_shared<XgrammarGrammar>(std::move(compiled), vocabulary_, std::move(grammar));
      Mask first(vocabulary_->stops.size());
      result->matcher()->fill(first);
      SABREWING_CHECK(std::any_of(first.begin(), first.end(), [](std::uint32_t word) { return word != 0; }),
                      kInvalidArgument, "[grammar] no answer matches");
      return result;
    } catch (const Error&) {
      throw;
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      fail(ErrorCode::kInvalidArgument, "[grammar] {}", reason(error.what()));
    }
  }

 private:
  static xgrammar::CompiledGrammar build(xgrammar::GrammarCompiler& compiler, const GrammarSpec& spec) {
    using Kind = GrammarSpec::Kind;
    switch (spec.kind) {
      case Kind::kJsonObject:
      case Kind::kJsonSchema:
        return compiler.CompileJSONSchema(spec.text, /*any_whitespace=*/true, /*indent=*/std::nullopt,
                                          /*separators=*/std::nullopt, /*strict_mode=*/true, kMostWhitespace);
      case Kind::kRegex:
        return compiler.CompileRegex(spec.text);
      case Kind::kChoice:
      case Kind::kEbnf:
        return compiler.CompileGrammar(spec.text);
      case Kind::kStructuralTag:
        return compiler.CompileStructuralTag(spec.text);
    }
    fail(ErrorCode::kInternal, "[grammar] a kind without a compiler");
  }

  xgrammar::GrammarCompiler compiler_;  ///< shares one immutable compiler
  std::shared_ptr<const Vocabulary> vocabulary_;
};

}  // namespace

bool grammar_supported() { return true; }

std::unique_ptr<GrammarBackend> make_grammar_backend(const Tokenizer& tokenizer,
                                                     std::span<const std::int32_t> stop_ids,
                                                     std::int64_t vocab_size, const GrammarLimits& limits) {
  return std::make_unique<XgrammarBackend>(tokenizer, stop_ids, vocab_size, limits);
}

}  // namespace sabrewing::text
