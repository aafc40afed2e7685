#include "core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sabrewing {
namespace {

// How long a worker polls for the next loop before it sleeps: decode issues loops a few microseconds apart.
constexpr int kSpins = 4000;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

struct ThreadPool::Impl {
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<std::uint64_t> generation{0};
  std::atomic<bool> stop{false};
  std::atomic<std::int64_t> next{0};
  std::atomic<int> running{0};
  std::int64_t count = 0;
  const std::function<void(std::int64_t, int)>* task = nullptr;
  std::exception_ptr error;
  std::vector<std::thread> workers;

  void drain(int worker) {
    for (;;) {
      const std::int64_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) return;
      try {
        (*task)(index, worker);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next.store(count, std::memory_order_relaxed);
      }
    }
  }

  void work(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && generation.load(std::memory_order_acquire) == seen; ++spin) relax();
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
      }
      seen = generation.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      drain(worker);
      running.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  void advance() {
    {
      const std::lock_guard lock(mutex);
      generation.fetch_add(1, std::memory_order_acq_rel);
    }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads), impl_(std::make_unique<Impl>()) {
  SABREWING_CHECK(threads >= 1 && threads <= 1024, kInvalidArgument,
                  "[threads] thread count {} is outside 1 to 1024", threads);
  for (int worker = 1; worker < threads; ++worker)
    impl_->workers.emplace_back([impl = impl_.get(), worker] { impl->work(worker); });
}

ThreadPool::~ThreadPool() {
  impl_->stop.store(true, std::memory_order_release);
  impl_->advance();
  for (std::thread& worker : impl_->workers) worker.join();
}

void ThreadPool::parallel_for(std::int64_t count, const std::function<void(std::int64_t, int)>& task) {
  if (count <= 0) return;
  if (threads_ == 1 || count == 1) {
    for (std::int64_t index = 0; index < count; ++index) task(index, 0);
    return;
  }
  Impl& impl = *impl_;
  impl.count = count;
  impl.task = &task;
  impl.error = nullptr;
  impl.next.store(0, std::memory_order_relaxed);
  impl.running.store(threads_ - 1, std::memory_order_relaxed);
  impl.advance();
  impl.drain(0);
  int spin = 0;
  while (impl.running.load(std::memory_order_acquire) != 0) {
    if (++spin < kSpins)
      relax();
    else
      std::this_thread::yield();
  }
  if (impl.error) std::rethrow_exception(impl.error);
}

int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int processors = ::sched_getaffinity(0, sizeof(set), &set) == 0
                       ? CPU_COUNT(&set)
                       : static_cast<int>(std::thread::hardware_concurrency());
  std::ifstream quota_file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (quota_file >> quota >> period && quota != "max" && period > 0)
    processors =
        std::min(processors, std::max(1, static_cast<int>(std::strtod(quota.c_str(), nullptr) / period)));
  return std::max(processors, 1);
}

}  // namespace sabrewing
