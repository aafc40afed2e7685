#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace sabrewing::jit {

/// A copy of `name` that lives until the process ends, one per distinct text.
const std::string* intern(std::string_view name);

/// Notes a launch in the ring of the latest 64, from any thread, without a lock. `name` is interned.
void record_launch(const std::string* name, const std::array<unsigned, 3>& grid);

/// Launches recorded so far.
std::uint64_t launch_count();

/// The latest `count` (at most 64) launches of this process, newest first: "gemm_a grid 132x1x1, ...".
std::string recent_launches(std::uint64_t count = 8);

}  // namespace sabrewing::jit
