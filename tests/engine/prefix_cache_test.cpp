#include "engine/prefix_cache.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace sabrewing::engine {
namespace {

using Ids = std::vector<std::int32_t>;

TEST(BlockPool, TakesWorthlessBlocksFirstThenTheLeastRecentlyUsed) {
  BlockPool pool(4, 3);
  const Ids taken = {pool.take(), pool.take(), pool.take()};
  EXPECT_EQ(pool.free_blocks(), 0);
  EXPECT_THROW(pool.take(), Error);
  pool.drop(taken[1], true);
  pool.drop(taken[0], true);
  pool.drop(taken[2], false);
  EXPECT_EQ(pool.kept_blocks(), 2);
  EXPECT_EQ(pool.take(), taken[2]);
  EXPECT_EQ(pool.take(), taken[1]);
  EXPECT_EQ(pool.take(), taken[0]);
  EXPECT_EQ(pool.kept_blocks(), 0);
}

TEST(BlockPool, CountsReferences) {
  BlockPool pool(4, 2);
  const std::int32_t block = pool.take();
  const std::uint64_t generation = pool.generation(block);
  pool.add_reference(block);
  pool.drop(block, true);
  EXPECT_EQ(pool.used_blocks(), 1);
  pool.drop(block, true);
  EXPECT_EQ(pool.used_blocks(), 0);
  EXPECT_THROW(pool.drop(block, true), Error);
  pool.add_reference(block);  // back from the free ones, contents intact
  EXPECT_EQ(pool.used_blocks(), 1);
  EXPECT_EQ(pool.generation(block), generation);
}

TEST(BlockPool, ExtendsWholeOrNotAtAll) {
  BlockPool pool(4, 3);
  Ids table;
  EXPECT_TRUE(pool.extend(table, 5));
  EXPECT_EQ(table.size(), 2);
  EXPECT_FALSE(pool.extend(table, 13));
  EXPECT_EQ(table.size(), 2);
  EXPECT_TRUE(pool.extend(table, 12));
  EXPECT_EQ(pool.free_blocks(), 0);
  pool.release(table);
  EXPECT_EQ(pool.free_blocks(), 3);
  EXPECT_THROW(BlockPool(0, 1), Error);
  EXPECT_THROW(BlockPool(1025, 1), Error);
  EXPECT_THROW(BlockPool(16, 0), Error);
}

class PrefixCacheTest : public testing::Test {
 protected:
  /// A table that holds `tokens`, stored.
  Ids compute(const Ids& tokens, const std::string& salt = "") {
    Ids table;
    EXPECT_TRUE(pool_.extend(table, static_cast<std::int64_t>(tokens.size())));
    cache_.store(tokens, salt, table, 0, static_cast<std::int64_t>(tokens.size()) / 2);
    return table;
  }

  BlockPool pool_{2, 6};
  PrefixCache cache_{pool_};
};

TEST_F(PrefixCacheTest, FindsFullBlocksOfTheSameBeginning) {
  Ids table = compute({1, 2, 3, 4, 5});
  EXPECT_EQ(cache_.find(Ids{1, 2, 3, 4, 5, 6}, ""), (Ids{table[0], table[1]}));
  EXPECT_EQ(cache_.find(Ids{1, 2, 3}, ""), (Ids{table[0]}));
  EXPECT_TRUE(cache_.find(Ids{1}, "").empty());
  EXPECT_TRUE(cache_.find(Ids{3, 4}, "").empty()) << "the same tokens elsewhere";
  EXPECT_TRUE(cache_.find(Ids{2, 1, 3, 4}, "").empty());
  EXPECT_FALSE(cache_.knows(table[2]));
}

TEST_F(PrefixCacheTest, KeepsSaltsApart) {
  const Ids one = compute({1, 2, 3, 4}, "one");
  EXPECT_TRUE(cache_.find(Ids{1, 2, 3, 4}, "").empty());
  EXPECT_TRUE(cache_.find(Ids{1, 2, 3, 4}, "two").empty());
  EXPECT_EQ(cache_.find(Ids{1, 2, 3, 4}, "one"), one);
  const Ids two = compute({1, 2, 3, 4}, "two");
  EXPECT_EQ(cache_.find(Ids{1, 2, 3, 4}, "two"), two);
  EXPECT_NE(one[1], two[1]);
}

TEST_F(PrefixCacheTest, ReplacesASecondCopy) {
  const Ids first = compute({1, 2, 3, 4});
  const Ids second = compute({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(second[0], first[0]);
  EXPECT_EQ(second[1], first[1]);
  EXPECT_EQ(pool_.references(first[0]), 2);
  EXPECT_EQ(pool_.used_blocks(), 3);
  EXPECT_EQ(cache_.find(Ids{1, 2, 3, 4, 5, 6}, ""), second);
}

TEST_F(PrefixCacheTest, EvictsTheEndOfAPromptBeforeItsBeginning) {
  Ids table = compute({1, 2, 3, 4, 5, 6});
  Ids other = compute({9, 9});
  cache_.release(table);
  cache_.release(other);
  EXPECT_EQ(pool_.kept_blocks(), 4);
  Ids fresh;
  ASSERT_TRUE(pool_.extend(fresh, 2 * 3));  // two were never used, one of the four goes
  EXPECT_EQ(cache_.find(Ids{1, 2, 3, 4, 5, 6}, "").size(), 2);
  EXPECT_EQ(cache_.find(Ids{9, 9}, "").size(), 1);
  ASSERT_TRUE(pool_.extend(fresh, 2 * 5));
  EXPECT_TRUE(cache_.find(Ids{1, 2, 3, 4, 5, 6}, "").empty());
  EXPECT_EQ(cache_.find(Ids{9, 9}, "").size(), 1);
}

TEST_F(PrefixCacheTest, ForgetsWhatItIsTold) {
  Ids table = compute({1, 2, 3, 4});
  cache_.forget(table);
  EXPECT_TRUE(cache_.find(Ids{1, 2, 3, 4}, "").empty());
  // What follows a forgotten block cannot be found, so it is not stored.
  pool_.extend(table, 6);
  cache_.store(Ids{1, 2, 3, 4, 5, 6}, "", table, 2, 3);
  EXPECT_FALSE(cache_.knows(table[2]));
  cache_.release(table);
  EXPECT_EQ(pool_.kept_blocks(), 0);
  const Ids again = compute({1, 2, 3, 4});
  EXPECT_EQ(cache_.find(Ids{1, 2, 3, 4}, ""), again);
}

}  // namespace
}  // namespace sabrewing::engine
