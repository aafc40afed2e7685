#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "core/error.h"
#include "text/utf8.h"

namespace sabrewing::text {
namespace {

// Compatibility forms grow eleven times at most; the rest is for replacements.
constexpr std::size_t kLeastLimit = 4096;
constexpr std::size_t kMostGrowth = 32;

/// No character below U+0300 combines with the one before it, and none changes in composed form.
bool is_composed_already(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

utf8proc_propval_t combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

/// Orders the marks [begin, end) by combining class, those of one class as they stand.
void order_marks(std::vector<utf8proc_int32_t>::iterator begin, std::vector<utf8proc_int32_t>::iterator end,
                 std::vector<utf8proc_int32_t>& buffer) {
  const auto before = [](auto a, auto b) { return combining_class(a) < combining_class(b); };
  if (std::is_sorted(begin, end, before)) return;
  std::array<std::size_t, 257> starts{};
  for (auto mark = begin; mark != end; ++mark) ++starts[static_cast<std::size_t>(combining_class(*mark)) + 1];
  std::partial_sum(starts.begin(), starts.end(), starts.begin());
  buffer.assign(begin, end);
  for (const utf8proc_int32_t mark : buffer) {
    begin[static_cast<std::ptrdiff_t>(starts[static_cast<std::size_t>(combining_class(mark))]++)] = mark;
  }
}

/// The normalization tables of `tokenizers` are those of Unicode 9: these younger characters neither
/// decompose nor combine there. (The ranges also cover characters that never do.)
struct Range {
  char32_t first;
  char32_t last;
};
constexpr std::array<Range, 24> kUnknown = {{
    {0x07FD, 0x07FD},   {0x0898, 0x08D3},   {0x09FE, 0x09FE},   {0x0C3C, 0x0C3C},   {0x0D3B, 0x0D3C},
    {0x0EBA, 0x0EBA},   {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},
    {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x107BA}, {0x10D24, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x11A99}, {0x11D42, 0x11F42},
    {0x16FF0, 0x16FF1}, {0x1E030, 0x1E4EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9},
}};

bool is_unknown(char32_t code_point) {
  const auto range = std::lower_bound(kUnknown.begin(), kUnknown.end(), code_point,
                                      [](const Range& entry, char32_t code) { return entry.last < code; });
  return range != kUnknown.end() && range->first <= code_point;
}

/// Appends decomposed characters in canonical order, composed if asked for, and empties `codes`.
/// utf8proc's own decomposition orders long runs of combining marks in quadratic time, so marks are
/// ordered here.
void finish_segment(std::vector<utf8proc_int32_t>& codes, bool composed, std::string& out) {
  std::vector<utf8proc_int32_t> buffer;
  for (auto run = codes.begin(); run != codes.end();) {
    if (combining_class(*run) == 0) {
      ++run;
      continue;
    }
    const auto end = std::find_if(run, codes.end(), [](auto code) { return combining_class(code) == 0; });
    order_marks(run, end, buffer);
    run = end;
  }
  if (composed) {
    const utf8proc_ssize_t count =
        utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
                                 static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    SABREWING_CHECK(count >= 0, kInternal, "[tokenizer] composition failed: {}", utf8proc_errmsg(count));
    codes.resize(static_cast<std::size_t>(count));
  }
  for (const utf8proc_int32_t code : codes) append_utf8(out, static_cast<char32_t>(code));
  codes.clear();
}

std::string to_form(std::string_view text, UnicodeForm form) {
  const bool composed = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  const bool compatible = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  if (is_ascii(text) || (form == UnicodeForm::kNfc && is_composed_already(text))) return std::string(text);

  const auto decompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                        (compatible ? UTF8PROC_COMPAT : 0));
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> segment;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    i += c.size;
    if (is_unknown(c.code_point)) {
      finish_segment(segment, composed, out);
      append_utf8(out, c.code_point);
      continue;
    }
    utf8proc_int32_t parts[32];
    int boundary = 0;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code_point), parts, 32, decompose, &boundary);
    SABREWING_CHECK(count >= 0 && count <= 32, kInternal, "[tokenizer] no decomposition of U+{:04X}",
                    static_cast<unsigned>(c.code_point));
    segment.insert(segment.end(), parts, parts + count);
  }
  finish_segment(segment, composed, out);
  return out;
}

struct Apply {
  std::string_view text;
  SearchBudget& budget;
  std::size_t limit;  // of the text's size

  std::string operator()(UnicodeForm form) const { return to_form(text, form); }

  std::string operator()(const Prepend& step) const {
    return text.empty() ? std::string() : std::string(step.text).append(text);
  }

  std::string operator()(Lowercase) const {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
      const Utf8Char c = next_char(text, i);
      i += c.size;
      if (c.code_point == 0x130) {
        out += "i\u0307";  // the only character with a longer lower case
      } else {
        append_utf8(out,
                    static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code_point))));
      }
    }
    return out;
  }

  std::string operator()(const Replace& step) const {
    std::string out;
    std::size_t done = 0;
    const auto replace = [&](std::size_t begin, std::size_t end) {
      out.append(text, done, begin - done).append(step.content);
      done = end;
      SABREWING_CHECK(out.size() <= limit, kInvalidArgument,
                      "[tokenizer] normalization makes more than {} bytes", limit);
    };
    if (const auto* regex = std::get_if<Regex>(&step.pattern)) {
      RegexMatches matches(*regex, text, budget);
      while (matches.next()) replace(matches.begin(), matches.end());
    } else {
      const auto& fixed = std::get<std::string>(step.pattern);
      for (std::size_t at = 0; (at = text.find(fixed, at)) != std::string_view::npos; at += fixed.size()) {
        replace(at, at + fixed.size());
      }
    }
    return out.append(text, done);
  }
};

}  // namespace

std::string Normalizer::apply(std::string_view text, SearchBudget& budget) const {
  const std::size_t limit = kLeastLimit + kMostGrowth * text.size();
  std::string current(text);
  for (const Step& step : steps_) {
    current = std::visit(Apply{current, budget, limit}, step);
    SABREWING_CHECK(current.size() <= limit, kInvalidArgument,
                    "[tokenizer] normalization makes more than {} bytes", limit);
  }
  return current;
}

}  // namespace sabrewing::text
