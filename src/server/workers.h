#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

namespace sabrewing::server {

/// Threads that run tasks in the order they came. The tasks do not throw.
class Workers {
 public:
  explicit Workers(int count, std::size_t most_waiting = std::numeric_limits<std::size_t>::max());
  /// Drops what waits and lets what runs end.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// False when too many wait.
  bool push(std::function<void()> task);

 private:
  struct Queue;
  std::shared_ptr<Queue> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace sabrewing::server
