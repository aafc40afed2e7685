#include "formats/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/printable.h"
#include "formats/checkpoint/names.h"
#include "tests/formats/checkpoint_files.h"

namespace sabrewing::formats {
namespace {

const std::string kA = safetensors_of({{"a", "U8", "[1]", "x"}});
const std::string kB = safetensors_of({{"b", "U8", "[1]", "y"}, {"c", "U8", "[2]", "zz"}});
constexpr const char* kIndex = "model.safetensors.index.json";

char first_byte(const Checkpoint& checkpoint, std::string_view name) {
  return static_cast<char>(checkpoint.find(name)->bytes[0]);
}

void write_shards(const TemporaryFolder& folder, const std::string& weight_map) {
  folder.write("1.safetensors", kA);
  folder.write("2.safetensors", kB);
  folder.write(kIndex, R"({"metadata":{"total_size":4},"weight_map":)" + weight_map + "}");
}

void expect_refused(ErrorCode code, const std::string& text, const TemporaryFolder& folder) {
  expect_error(code, text, [&] { Checkpoint{folder.path()}; });
}

TEST(Checkpoint, SingleFile) {
  const TemporaryFolder folder;
  folder.write("model.safetensors", kB);
  folder.write("other.safetensors", kA);
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.files().size(), 1u);
  EXPECT_EQ(first_byte(checkpoint, "b"), 'y');
  EXPECT_EQ(checkpoint.find("a"), nullptr);
}

TEST(Checkpoint, LoneFileOfAnotherName) {
  const TemporaryFolder folder;
  folder.write("weights.safetensors", kA);
  EXPECT_EQ(first_byte(Checkpoint(folder.path()), "a"), 'x');
  folder.write("more.safetensors", kB);
  expect_refused(ErrorCode::kNotFound, "holds 2 *.safetensors files", folder);
}

TEST(Checkpoint, Shards) {
  const TemporaryFolder folder;
  write_shards(folder, R"({"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"})");
  folder.write("unrelated.safetensors", kA);
  Checkpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.files().size(), 2u);
  EXPECT_EQ(checkpoint.tensors().size(), 3u);
  EXPECT_EQ(first_byte(checkpoint, "a"), 'x');
  EXPECT_EQ(first_byte(checkpoint, "c"), 'z');
  const Checkpoint moved = std::move(checkpoint);
  moved.release(moved.find("c")->bytes);
  EXPECT_EQ(first_byte(moved, "c"), 'z');
}

TEST(Checkpoint, ShardsInASubfolder) {
  const TemporaryFolder folder;
  folder.write("sub/1.safetensors", kA);
  folder.write(kIndex, R"({"weight_map":{"a":"sub/1.safetensors"}})");
  EXPECT_EQ(first_byte(Checkpoint(folder.path()), "a"), 'x');
}

TEST(Checkpoint, RefusesBadFolders) {
  const TemporaryFolder folder;
  expect_refused(ErrorCode::kNotFound, "holds no *.safetensors file", folder);
  const auto file = folder.write("file", "");
  expect_error(ErrorCode::kIo, "is not a folder", [&] { Checkpoint{file}; });
  expect_error(ErrorCode::kNotFound, "no folder", [&] { Checkpoint{folder.path() / "absent"}; });
  std::filesystem::create_directory(folder.path() / "model.safetensors");
  expect_refused(ErrorCode::kIo, "is a directory", folder);
}

TEST(Checkpoint, RefusesIndexesThatContradictTheShards) {
  const TemporaryFolder folder;
  write_shards(folder,
               R"({"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors","d":"2.safetensors"})");
  expect_refused(ErrorCode::kCorrupt, "tensor \"d\" is not in its shard \"2.safetensors\"", folder);
  write_shards(folder, R"({"a":"1.safetensors","b":"2.safetensors"})");
  expect_refused(ErrorCode::kCorrupt, "tensor \"c\" of shard \"2.safetensors\" is not in weight_map", folder);
  write_shards(folder, R"({"a":"2.safetensors","b":"1.safetensors","c":"2.safetensors"})");
  expect_refused(ErrorCode::kCorrupt, "tensor \"a\" is in shard \"1.safetensors\"", folder);
  write_shards(folder, R"({"a":"1.safetensors","b":"3.safetensors","c":"2.safetensors"})");
  std::filesystem::remove(folder.path() / "2.safetensors");
  expect_refused(ErrorCode::kNotFound, "shard \"2.safetensors\" is not in the folder", folder);
  write_shards(folder, R"({"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"})");
  folder.write("2.safetensors", kB.substr(0, kB.size() - 1));
  expect_refused(ErrorCode::kCorrupt, "2.safetensors", folder);
}

TEST(Checkpoint, RefusesBadIndexes) {
  const auto refuse = [](const std::string& text, const std::string& index) {
    expect_error(ErrorCode::kCorrupt, text, [&] { parse_weight_map(index, "i.json"); });
    expect_error(ErrorCode::kCorrupt, "i.json", [&] { parse_weight_map(index, "i.json"); });
  };
  refuse("is not an object", "[]");
  refuse("weight_map is not an object", "{}");
  refuse("weight_map is not an object", R"({"weight_map":[]})");
  refuse("weight_map is not an object", R"({"weight_map":{}})");
  refuse("weight_map of \"a\" is not a string", R"({"weight_map":{"a":1}})");
  refuse("duplicate", R"({"weight_map":{"a":"1.safetensors","a":"2.safetensors"}})");
  refuse("nested deeper", R"({"weight_map":)" + std::string(100000, '['));
  refuse("malformed", R"({"weight_map":)");
  for (const char* file :
       {"../x.safetensors", "/x.safetensors", "a/../../x.safetensors", "x\\u0000.safetensors"})
    refuse("outside the folder", fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", file));
  for (const char* file : {"", ".", "x.bin", ".safetensors"})
    refuse("is not a safetensors file", fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", file));
}

TEST(TensorAudit, CountsEveryTensor) {
  const TemporaryFolder folder;
  write_shards(folder, R"({"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"})");
  const Checkpoint checkpoint(folder.path());
  TensorAudit audit(checkpoint);
  EXPECT_EQ(static_cast<char>(audit.take("a").bytes[0]), 'x');
  EXPECT_EQ(audit.take_optional("absent"), nullptr);
  EXPECT_NE(audit.take_optional("b"), nullptr);
  expect_error(ErrorCode::kNotFound, "tensor \"d\" is missing", [&] { audit.take("d"); });
  expect_error(ErrorCode::kInternal, "tensor \"b\" is consumed twice", [&] { audit.take("b"); });
  expect_error(ErrorCode::kCorrupt, "1 tensors belong to no parameter of the model: \"c\"",
               [&] { audit.finish(); });
  EXPECT_THAT(audit.surplus(), testing::ElementsAre("c"));
  audit.take("c");
  audit.finish();
}

TEST(TensorAudit, ListsOnlyTheFirstNames) {
  std::vector<TestTensor> tensors;
  for (int i = 0; i < 9; ++i) tensors.push_back({fmt::format("t{}", i), "U8", "[1]", "x"});
  const TemporaryFolder folder;
  folder.write("model.safetensors", safetensors_of(tensors));
  const Checkpoint checkpoint(folder.path());
  TensorAudit audit(checkpoint);
  expect_error(ErrorCode::kCorrupt,
               "9 tensors belong to no parameter of the model: \"t0\", \"t1\", \"t2\", \"t3\", \"t4\", ...",
               [&] { audit.finish(); });
  audit.ignore("t*");
  audit.finish();
}

TEST(Names, PrintableFormIsShortAndStaysUtf8) {
  EXPECT_EQ(printable("a.b"), R"("a.b")");
  EXPECT_EQ(printable(std::string_view("\0\n\x7f", 3)), R"("\x00\x0a\x7f")");
  EXPECT_EQ(printable(std::string(120, 'n')), fmt::format("\"{:n>120}\"", ""));
  EXPECT_EQ(printable(std::string(121, 'n')), fmt::format("\"{:n>120}...\"", ""));
  EXPECT_EQ(printable(fmt::format("{:n>119}\u00e9", "")), fmt::format("\"{:n>119}...\"", ""));
  EXPECT_EQ(printable(fmt::format("{:n>118}\u00e9x", "")), fmt::format("\"{:n>118}\u00e9...\"", ""));
}

TEST(Names, Globs) {
  EXPECT_TRUE(matches_glob("a.b", "a.b"));
  EXPECT_FALSE(matches_glob("a.b", "axb"));
  EXPECT_FALSE(matches_glob("a", "ab"));
  EXPECT_TRUE(matches_glob("*", ""));
  EXPECT_TRUE(matches_glob("model.layers.*.self_attn.*", "model.layers.12.self_attn.q_proj.weight"));
  EXPECT_FALSE(matches_glob("model.layers.*.self_attn", "model.layers.12.self_attn.q_proj"));
  EXPECT_TRUE(matches_glob("*ab*ab", "xabyabzab"));
  EXPECT_FALSE(matches_glob("*ab*ab", "xaby"));
  EXPECT_FALSE(matches_glob("", "a"));
  // Backtracking is bounded.
  std::string stars;
  for (int i = 0; i < 200; ++i) stars += "*a";
  EXPECT_FALSE(matches_glob(stars + "b", std::string(20000, 'a')));
}

}  // namespace
}  // namespace sabrewing::formats
