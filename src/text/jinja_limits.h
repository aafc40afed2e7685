#pragma once

#include <cstddef>

namespace sabrewing::text {

/// What one rendering may use. Each limit ends it with an error that names the limit.
struct TemplateLimits {
  std::size_t steps = 50'000'000;         ///< evaluated nodes, plus one per 64 bytes handled
  std::size_t output_bytes = 64u << 20;   ///< rendered text
  std::size_t memory_bytes = 256u << 20;  ///< values alive at one time
  int depth = 600;                        ///< nested evaluation, macro calls included
};

/// Local time for `strftime_now`.
struct LocalTime {
  int year = 1970;
  int month = 1;
  int day = 1;
  int hour = 0;
  int minute = 0;
  int second = 0;
  int microsecond = 0;
};

}  // namespace sabrewing::text
