#include "jit/architecture.h"

#include "core/error.h"

namespace sabrewing::jit {

std::string Architecture::to_string() const {
  std::string text = fmt::format("sm_{}", number);
  if (suffix != '\0') text += suffix;
  return text;
}

Architecture Architecture::parse(std::string_view text) {
  const auto refuse = [&]() {
    fail(ErrorCode::kInvalidArgument, "[architecture] not an architecture: {}, expected sm_80, sm_90a, ...",
         text);
  };
  if (!text.starts_with("sm_")) refuse();
  Architecture architecture;
  std::size_t digits = 0;
  std::string_view rest = text.substr(3);
  for (; digits < rest.size() && rest[digits] >= '0' && rest[digits] <= '9'; ++digits) {
    if (digits == 3) refuse();
    architecture.number = 10 * architecture.number + (rest[digits] - '0');
  }
  rest.remove_prefix(digits);
  if (digits < 2 || rest.size() > 1 || (rest.size() == 1 && rest[0] != 'a' && rest[0] != 'f')) refuse();
  if (!rest.empty()) architecture.suffix = rest[0];
  return architecture;
}

Architecture Architecture::of_device(int compute_major, int compute_minor) {
  return {10 * compute_major + compute_minor, compute_major >= 9 ? 'a' : '\0'};
}

}  // namespace sabrewing::jit
