#include "server/workers.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

namespace sabrewing::server {

struct Workers::Queue {
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::function<void()>> tasks;
  std::size_t most;
  bool ending = false;

  explicit Queue(std::size_t most_waiting) : most(most_waiting) {}

  void run() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return ending || !tasks.empty(); });
        if (ending) return;
        task = std::move(tasks.front());
        tasks.pop_front();
      }
      task();
    }
  }
};

Workers::Workers(int count, std::size_t most_waiting) : queue_(std::make_shared<Queue>(most_waiting)) {
  for (int i = 0; i < count; ++i) threads_.emplace_back([queue = queue_] { queue->run(); });
}

Workers::~Workers() {
  std::deque<std::function<void()>> dropped;
  {
    const std::lock_guard lock(queue_->mutex);
    queue_->ending = true;
    dropped.swap(queue_->tasks);
  }
  queue_->wake.notify_all();
  // A task may have held the last reference to the owner.
  for (std::thread& thread : threads_) {
    if (thread.get_id() == std::this_thread::get_id())
      thread.detach();
    else
      thread.join();
  }
}

bool Workers::push(std::function<void()> task) {
  {
    const std::lock_guard lock(queue_->mutex);
    if (queue_->tasks.size() >= queue_->most) return false;
    queue_->tasks.push_back(std::move(task));
  }
  queue_->wake.notify_one();
  return true;
}

}  // namespace sabrewing::server
