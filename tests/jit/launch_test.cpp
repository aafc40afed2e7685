#include "jit/launch.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace sabrewing::jit {
namespace {

TEST(LaunchLog, ListsTheNewestFirst) {
  for (unsigned i = 0; i < 100; ++i) record_launch(intern("kernel " + std::to_string(i)), {i, 2, 3});
  EXPECT_EQ(recent_launches(2), "kernel 99 grid 99x2x3, kernel 98 grid 98x2x3");
  EXPECT_EQ(recent_launches(1000).find("kernel 35"), std::string::npos);
  EXPECT_NE(recent_launches(1000).find("kernel 36"), std::string::npos);
  EXPECT_EQ(intern("same"), intern(std::string("sa") + "me"));
}

TEST(LaunchLog, TakesLaunchesFromManyThreads) {
  const std::uint64_t before = launch_count();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      for (int i = 0; i < 1000; ++i) {
        record_launch(intern("thread " + std::to_string(t)), {1, 1, 1});
        if (i % 100 == 0) recent_launches();
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(launch_count() - before, 4000u);
}

TEST(LaunchConfig, BecomesTheDriversStructure) {
  LaunchAttributeAbi attributes[kMaxLaunchAttributes];
  LaunchConfig config;
  config.grid = {7, 8, 9};
  config.block = {128, 2, 1};
  config.dynamic_shared_bytes = 1000;
  LaunchConfigAbi abi = to_abi(config, attributes);
  EXPECT_EQ(abi.grid[2], 9u);
  EXPECT_EQ(abi.block[0], 128u);
  EXPECT_EQ(abi.shared_bytes, 1000u);
  EXPECT_EQ(abi.attribute_count, 0u);

  config.cluster = {2, 1, 1};
  config.programmatic_serialization = true;
  config.cooperative = true;
  abi = to_abi(config, attributes);
  ASSERT_EQ(abi.attribute_count, 3u);
  EXPECT_EQ(abi.attributes[0].id, LaunchAttributeAbi::kClusterDimension);
  EXPECT_EQ(abi.attributes[0].value.cluster[0], 2u);
  EXPECT_EQ(abi.attributes[1].id, LaunchAttributeAbi::kProgrammaticStreamSerialization);
  EXPECT_EQ(abi.attributes[1].value.flag, 1);
  EXPECT_EQ(abi.attributes[2].id, LaunchAttributeAbi::kCooperative);
}

}  // namespace
}  // namespace sabrewing::jit
