#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "core/error.h"

namespace sabrewing::capi {

/// The number of the next handle of any kind; never one that was given before.
inline std::uintptr_t next_handle() {
  static std::atomic<std::uintptr_t> next{1};
  constexpr std::uintptr_t kStep = 16;  // looks like an aligned pointer
  return next.fetch_add(1, std::memory_order_relaxed) * kStep;
}

/// Objects behind the handles of one kind. `Handle` is the incomplete type of the C interface.
template <typename Object, typename Handle>
class HandleTable {
 public:
  explicit HandleTable(const char* kind) : kind_(kind) {}

  Handle* insert(std::shared_ptr<Object> object) {
    const std::uintptr_t number = next_handle();
    const std::unique_lock lock(mutex_);
    objects_.emplace(number, std::move(object));
    return reinterpret_cast<Handle*>(number);
  }

  /// Throws `Error{kInvalidArgument}` for what is no live handle of this kind.
  std::shared_ptr<Object> find(const Handle* handle) const {
    const std::shared_lock lock(mutex_);
    const auto it = objects_.find(reinterpret_cast<std::uintptr_t>(handle));
    if (it == objects_.end()) refuse(handle);
    return it->second;
  }

  /// As `find`; the handle is dead afterwards.
  std::shared_ptr<Object> remove(const Handle* handle) {
    const std::unique_lock lock(mutex_);
    const auto it = objects_.find(reinterpret_cast<std::uintptr_t>(handle));
    if (it == objects_.end()) refuse(handle);
    std::shared_ptr<Object> object = std::move(it->second);
    objects_.erase(it);
    return object;
  }

 private:
  [[noreturn]] void refuse(const Handle* handle) const {
    if (handle == nullptr) fail(ErrorCode::kInvalidArgument, "[handle] the {} is null", kind_);
    fail(ErrorCode::kInvalidArgument, "[handle] {} is no {}, or one that was destroyed",
         static_cast<const void*>(handle), kind_);
  }

  const char* kind_;
  mutable std::shared_mutex mutex_;
  std::unordered_map<std::uintptr_t, std::shared_ptr<Object>> objects_;
};

}  // namespace sabrewing::capi
