#pragma once

#include <compare>
#include <string>
#include <string_view>

namespace sabrewing::jit {

/// An exact GPU architecture, "sm_90a": 10 * compute capability, and 'a' where architecture-specific
/// instructions (WGMMA, tcgen05) are wanted; such code runs on that capability only.
struct Architecture {
  int number = 0;
  char suffix = '\0';

  auto operator<=>(const Architecture&) const = default;

  /// "sm_90a"
  std::string to_string() const;
  /// The inverse of `to_string`. Throws `Error{kInvalidArgument}`.
  static Architecture parse(std::string_view text);
  /// What to compile for a device of this compute capability: sm_80, 86, 89, 90a, 100a, 103a, 120a, ...
  static Architecture of_device(int compute_major, int compute_minor);
};

}  // namespace sabrewing::jit
