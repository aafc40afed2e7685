#include "text/grammar.h"

#include <algorithm>
#include <future>
#include <list>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "text/grammar_backend.h"
#include "text/json_schema.h"

namespace sabrewing::text {
namespace {

using Kind = GrammarSpec::Kind;

/// Above this xgrammar counts instead of unrolling.
constexpr std::int64_t kCountedRepetition = 128;

/// A literal of xgrammar's EBNF.
std::string literal(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      (quoted += '\\') += c;
    else if (c >= 0 && (c < ' ' || c == '\x7f'))
      quoted += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else
      quoted += c;
  }
  return quoted + '"';
}

std::string choice_grammar(const std::vector<std::string>& choices, const GrammarLimits& limits) {
  SABREWING_CHECK(!choices.empty(), kInvalidArgument, "[grammar] a choice among nothing");
  SABREWING_CHECK(choices.size() <= limits.max_choices, kInvalidArgument, "[grammar] {} choices, at most {}",
                  choices.size(), limits.max_choices);
  std::string text = "root ::= ";
  for (const std::string& choice : choices) {
    SABREWING_CHECK(choice.find('\0') == std::string::npos, kInvalidArgument,
                    "[grammar] a choice contains a null character");
    if (&choice != &choices.front()) text += " | ";
    text += literal(choice);
    SABREWING_CHECK(text.size() <= limits.max_text_bytes, kInvalidArgument,
                    "[grammar] the choices have more than {} bytes", limits.max_text_bytes);
  }
  return text;
}

/// Turns what a request says into what the backend compiles.
PreparedGrammar prepare(const GrammarSpec& spec, const Tokenizer& tokenizer, std::int64_t vocab_size,
                        const GrammarLimits& limits) {
  PreparedGrammar prepared;
  prepared.spec = {spec.kind, spec.text, {}, spec.lenient};
  RepetitionCost cost;
  const auto take = [&](PreparedSchema schema) {
    SABREWING_CHECK(spec.lenient || schema.unenforced.empty(), kInvalidArgument,
                    "[grammar] the schema cannot be enforced: {}", schema.unenforced.front());
    prepared.spec.text = std::move(schema.text);
    prepared.unenforced = std::move(schema.unenforced);
    cost = schema.cost;
  };
  switch (spec.kind) {
    case Kind::kJsonObject:
      prepared.spec.text = R"({"type":"object"})";
      break;
    case Kind::kJsonSchema:
      take(prepare_json_schema(spec.text, limits));
      break;
    case Kind::kStructuralTag:
      take(prepare_structural_tag(spec.text, tokenizer, limits));
      break;
    case Kind::kChoice:
      prepared.spec.text = choice_grammar(spec.choices, limits);
      break;
    case Kind::kRegex:
      cost = check_regex(spec.text, limits);
      break;
    case Kind::kEbnf:
      cost = check_ebnf(spec.text, limits);
      break;
  }
  SABREWING_CHECK(cost.places <= limits.max_unrolled_tokens / vocab_size, kInvalidArgument,
                  "[grammar] bounded repetitions and string lengths take {} places in all, at most {} with a "
                  "vocabulary of {}",
                  cost.places, limits.max_unrolled_tokens / vocab_size, vocab_size);
  prepared.counted = cost.longest > kCountedRepetition;
  return prepared;
}

/// What tells specifications apart.
std::string key_of(const GrammarSpec& spec) {
  std::string key = fmt::format("{}{}", static_cast<int>(spec.kind), spec.lenient ? 'l' : 's');
  key += spec.text;
  for (const std::string& choice : spec.choices) key += fmt::format("\x1f{}:{}", choice.size(), choice);
  return key;
}

}  // namespace

struct GrammarCompiler::Impl {
  using Compiled = std::shared_ptr<const Grammar>;
  struct Entry {
    std::string key;
    Compiled grammar;
  };

  Impl(const Tokenizer& model_tokenizer, std::span<const std::int32_t> stop_ids, std::int64_t logits,
       const GrammarLimits& with_limits)
      : tokenizer(model_tokenizer),
        vocab_size(logits),
        limits(with_limits),
        backend(make_grammar_backend(model_tokenizer, stop_ids, logits, with_limits)) {}

  Compiled compile(const GrammarSpec& spec) const {
    return backend->compile(prepare(spec, tokenizer, vocab_size, limits));
  }

  /// Called with the lock held.
  Compiled find(const std::string& key) {
    const auto found = places.find(key);
    if (found == places.end()) return nullptr;
    entries.splice(entries.begin(), entries, found->second);
    return found->second->grammar;
  }

  /// Called with the lock held.
  void keep(const std::string& key, const Compiled& grammar) {
    if (grammar->bytes() > limits.cache_bytes) return;
    entries.push_front({key, grammar});
    places[key] = entries.begin();
    held += grammar->bytes();
    while (held > limits.cache_bytes) {
      held -= entries.back().grammar->bytes();
      places.erase(entries.back().key);
      entries.pop_back();
    }
  }

  Tokenizer tokenizer;
  std::int64_t vocab_size;
  GrammarLimits limits;
  std::unique_ptr<GrammarBackend> backend;
  std::mutex mutex;
  std::list<Entry> entries;  ///< the last used first
  std::unordered_map<std::string, std::list<Entry>::iterator> places;
  std::unordered_map<std::string, std::shared_future<Compiled>> running;
  std::size_t held = 0;
};

GrammarCompiler::GrammarCompiler(const Tokenizer& tokenizer, std::span<const std::int32_t> stop_ids,
                                 std::int64_t vocab_size, const GrammarLimits& limits) {
  SABREWING_CHECK(vocab_size > 0 && vocab_size >= tokenizer.vocab_size(), kInvalidArgument,
                  "[grammar] a vocabulary of {} for a tokenizer of {}", vocab_size, tokenizer.vocab_size());
  for (const std::int32_t id : stop_ids)
    SABREWING_CHECK(id >= 0 && id < vocab_size, kInvalidArgument,
                    "[grammar] the stop token {} is not in the vocabulary", id);
  impl_ = std::make_unique<Impl>(tokenizer, stop_ids, vocab_size, limits);
}

GrammarCompiler::~GrammarCompiler() = default;

std::shared_ptr<const Grammar> GrammarCompiler::compile(const GrammarSpec& spec) {
  const std::string key = key_of(spec);
  std::promise<Impl::Compiled> promise;
  {
    std::unique_lock lock(impl_->mutex);
    if (Impl::Compiled found = impl_->find(key)) return found;
    if (const auto found = impl_->running.find(key); found != impl_->running.end()) {
      const std::shared_future<Impl::Compiled> result = found->second;
      lock.unlock();
      return result.get();
    }
    impl_->running.emplace(key, promise.get_future().share());
  }
  Impl::Compiled grammar;
  std::exception_ptr failure;
  try {
    grammar = impl_->compile(spec);
  } catch (...) {
    failure = std::current_exception();
  }
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->running.erase(key);
    if (grammar != nullptr) impl_->keep(key, grammar);
  }
  if (failure != nullptr) {
    promise.set_exception(failure);
    std::rethrow_exception(failure);
  }
  promise.set_value(grammar);
  return grammar;
}

std::shared_ptr<const Grammar> GrammarCompiler::find(const GrammarSpec& spec) {
  const std::string key = key_of(spec);
  const std::lock_guard lock(impl_->mutex);
  return impl_->find(key);
}

std::size_t GrammarCompiler::cached() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->entries.size();
}

}  // namespace sabrewing::text
