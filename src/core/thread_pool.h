#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace sabrewing {

/// A fixed set of workers that run one indexed loop at a time. The caller works too, so a pool of one
/// thread starts none. Results never depend on the thread count as long as tasks write disjoint memory.
class ThreadPool {
 public:
  /// `threads` >= 1, the caller included.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  /// Calls `task(index, worker)` once for each index in [0, count), indices handed out in order, and
  /// returns when all are done; `worker` is in [0, threads()). The first exception is rethrown after the
  /// loop stopped. Not reentrant; one caller at a time.
  void parallel_for(std::int64_t count, const std::function<void(std::int64_t index, int worker)>& task);

 private:
  struct Impl;
  int threads_;
  std::unique_ptr<Impl> impl_;
};

/// Processors this process may run on (affinity and cgroup quota considered), at least 1.
int available_processors();

}  // namespace sabrewing
