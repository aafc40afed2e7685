#include "jit/launch_log.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>

namespace sabrewing::jit {

namespace {

constexpr std::size_t kCapacity = 64;

struct Record {
  std::atomic<const std::string*> name{nullptr};
  std::atomic<unsigned> grid_x{0};
  std::atomic<unsigned> grid_y{0};
  std::atomic<unsigned> grid_z{0};
};

std::array<Record, kCapacity> records;
std::atomic<std::uint64_t> launches{0};

}  // namespace

const std::string* intern(std::string_view name) {
  static std::mutex mutex;
  static auto& names = *new std::set<std::string, std::less<>>;  // read by error paths of static destructors
  const std::lock_guard lock(mutex);
  const auto found = names.find(name);
  return found != names.end() ? &*found : &*names.emplace(name).first;
}

void record_launch(const std::string* name, const std::array<unsigned, 3>& grid) {
  Record& record = records[launches.fetch_add(1, std::memory_order_relaxed) % kCapacity];
  record.name.store(name, std::memory_order_relaxed);
  record.grid_x.store(grid[0], std::memory_order_relaxed);
  record.grid_y.store(grid[1], std::memory_order_relaxed);
  record.grid_z.store(grid[2], std::memory_order_relaxed);
}

std::uint64_t launch_count() { return launches.load(std::memory_order_relaxed); }

std::string recent_launches(std::uint64_t count) {
  const std::uint64_t total = launch_count();
  std::string text;
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>({count, kCapacity, total}); ++i) {
    const Record& record = records[(total - 1 - i) % kCapacity];
    const std::string* name = record.name.load(std::memory_order_relaxed);
    if (name == nullptr) continue;
    text += fmt::format(
        "{}{} grid {}x{}x{}", text.empty() ? "" : ", ", *name, record.grid_x.load(std::memory_order_relaxed),
        record.grid_y.load(std::memory_order_relaxed), record.grid_z.load(std::memory_order_relaxed));
  }
  return text.empty() ? "none by this library" : text;
}

}  // namespace sabrewing::jit
