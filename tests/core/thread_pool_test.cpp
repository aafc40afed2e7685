#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace sabrewing {
namespace {

TEST(ThreadPool, RunsEveryIndexOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::atomic<int>> hits(round);
      pool.parallel_for(round, [&](std::int64_t index, int worker) {
        ASSERT_LT(worker, threads);
        ++hits[static_cast<std::size_t>(index)];
      });
      for (const auto& hit : hits) ASSERT_EQ(hit, 1);
    }
  }
}

TEST(ThreadPool, RethrowsAndStaysUsable) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.parallel_for(100,
                                 [](std::int64_t i, int) {
                                   if (i == 7) throw std::runtime_error("x");
                                 }),
               std::runtime_error);
  std::atomic<int> sum{0};
  pool.parallel_for(100, [&](std::int64_t, int) { ++sum; });
  EXPECT_EQ(sum, 100);
}

}  // namespace
}  // namespace sabrewing
