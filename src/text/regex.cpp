#include "text/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "core/error.h"
#include "text/regex_dialect.h"
#include "text/utf8.h"

namespace sabrewing::text {
namespace {

// An attempt at one position starts with a small allowance of backtracking and gets more in steps, with a
// look at the clock between them. Published patterns need about two units for each byte that they consume.
constexpr std::uint32_t kFirstMatchLimit = 1000;
constexpr std::uint32_t kMatchLimitGrowth = 2;
constexpr std::uint32_t kLastMatchLimit = 2'000'000'000;
constexpr double kSeconds = 0.5;
constexpr double kSecondsPerByte = 2e-6;
constexpr std::uint32_t kHeapLimitKiB = 1 << 16;
constexpr std::size_t kJitStackStart = 1 << 16;
constexpr std::size_t kJitStackLimit = 1 << 26;

template <auto function>
struct Deleter {
  template <typename T>
  void operator()(T* pointer) const {
    function(pointer);
  }
};

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

struct Regex::Code {
  std::string what;
  std::unique_ptr<pcre2_code, Deleter<pcre2_code_free>> code;
};

struct RegexMatches::Scratch {
  std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>> data;
  std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>> context;
  std::unique_ptr<pcre2_jit_stack, Deleter<pcre2_jit_stack_free>> stack;
};

Regex::Regex(std::string_view pattern, std::string what) : code_(std::make_unique<Code>()) {
  const std::string translated = translate_regex(pattern, what);
  const std::unique_ptr<pcre2_compile_context, Deleter<pcre2_compile_context_free>> context(
      pcre2_compile_context_create(nullptr));
  SABREWING_CHECK(context != nullptr, kOutOfMemory, "[tokenizer] {}: no memory for the regex", what);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Anchored: positions are advanced here, where the effort is watched.
  constexpr std::uint32_t kOptions =
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C;
  code_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                  kOptions, &error, &offset, context.get()));
  if (code_->code == nullptr) {
    unsigned char message[160] = {};
    pcre2_get_error_message(error, message, sizeof message);
    fail(ErrorCode::kCorrupt, "[tokenizer] {}: regex does not compile: {}", what,
         reinterpret_cast<const char*>(message));
  }
  // Where the system forbids run-time code the interpreter gives the same matches.
  pcre2_jit_compile(code_->code.get(), PCRE2_JIT_COMPLETE);
  code_->what = std::move(what);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

SearchBudget::SearchBudget(std::size_t bytes)
    : bytes_(bytes), attempts_per_check_(std::clamp<std::size_t>((1 << 24) / (bytes + 1), 8, 256)) {}

void SearchBudget::check(std::string_view what) {
  const double now = thread_seconds();
  if (deadline_ == 0) deadline_ = now + kSeconds + kSecondsPerByte * static_cast<double>(bytes_);
  SABREWING_CHECK(now < deadline_, kInvalidArgument,
                  "[tokenizer] {}: the regex backtracks too much on this text of {} bytes", what, bytes_);
}

RegexMatches::RegexMatches(const Regex& regex, std::string_view text, SearchBudget& budget)
    : regex_(regex), text_(text), budget_(budget), scratch_(std::make_unique<Scratch>()) {
  scratch_->data.reset(pcre2_match_data_create(1, nullptr));
  scratch_->context.reset(pcre2_match_context_create(nullptr));
  SABREWING_CHECK(scratch_->data != nullptr && scratch_->context != nullptr, kOutOfMemory,
                  "[tokenizer] {}: no memory for a search", regex.code_->what);
  pcre2_set_match_limit(scratch_->context.get(), kFirstMatchLimit);
  pcre2_set_heap_limit(scratch_->context.get(), kHeapLimitKiB);
}

RegexMatches::~RegexMatches() = default;

bool RegexMatches::next() {
  for (; position_ <= text_.size();
       position_ += position_ < text_.size() ? next_char(text_, position_).size : 1) {
    if (!match_at(position_)) continue;
    if (begin_ == end_ && matched_before_ && begin_ == last_end_) continue;
    matched_before_ = true;
    position_ = last_end_ = end_;
    return true;
  }
  return false;
}

bool RegexMatches::match_at(std::size_t position) {
  budget_.count_attempt(regex_.code_->what);
  pcre2_match_context* context = scratch_->context.get();
  std::uint32_t limit = kFirstMatchLimit;
  bool raised = false;
  for (;;) {
    const int result = pcre2_match(regex_.code_->code.get(), reinterpret_cast<PCRE2_SPTR>(text_.data()),
                                   text_.size(), position, PCRE2_NO_UTF_CHECK, scratch_->data.get(), context);
    if (result == PCRE2_ERROR_MATCHLIMIT && limit < kLastMatchLimit) {
      budget_.check(regex_.code_->what);
      limit *= kMatchLimitGrowth;
      pcre2_set_match_limit(context, limit);
      raised = true;
      continue;
    }
    if (result == PCRE2_ERROR_JIT_STACKLIMIT && scratch_->stack == nullptr) {
      scratch_->stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr));
      if (scratch_->stack != nullptr) {
        pcre2_jit_stack_assign(context, nullptr, scratch_->stack.get());
        continue;
      }
    }
    if (raised) pcre2_set_match_limit(context, kFirstMatchLimit);
    if (result == PCRE2_ERROR_NOMATCH) return false;
    SABREWING_CHECK(result >= 0, kInvalidArgument,
                    "[tokenizer] {}: the regex needs too much memory or time on this text of {} bytes",
                    regex_.code_->what, text_.size());
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(scratch_->data.get());
    begin_ = span[0];
    end_ = span[1];
    return true;
  }
}

}  // namespace sabrewing::text
