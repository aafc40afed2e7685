#pragma once

#include <string>
#include <string_view>

namespace sabrewing::text {

/// Rewrites a regular expression of `tokenizer.json`, which is written for Oniguruma, into one that
/// PCRE2 (UTF and UCP) runs with the same meaning: `\s` becomes White_Space, `\v` one character,
/// `{,n}` `{0,n}`, a script its Script property. Whatever the two engines read differently and cannot
/// be rewritten is refused: `Error{kUnsupported}` that names `what` and the construct. A construct that
/// neither knows is `Error{kCorrupt}`.
std::string translate_regex(std::string_view pattern, std::string_view what);

}  // namespace sabrewing::text
