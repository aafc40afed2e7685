#include "formats/checkpoint/safetensors.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "core/error.h"
#include "tests/formats/checkpoint_files.h"

namespace sabrewing::formats {
namespace {

SafetensorsContent parse(const std::string& bytes) {
  return parse_safetensors(std::as_bytes(std::span(bytes)), "x.safetensors");
}

void expect_refused(const std::string& text, const std::string& bytes, ErrorCode code = ErrorCode::kCorrupt) {
  expect_error(code, text, [&] { parse(bytes); });
  expect_error(code, "x.safetensors", [&] { parse(bytes); });
}

std::string header_of(const std::string& entry) { return "{\"w\":{" + entry + "}}"; }

/// Written by the safetensors library: one tensor per dtype with the bytes 0, 1, 2, ...
TEST(Safetensors, ReadsAFileOfTheReferenceLibrary) {
  const SafetensorsFile file(SABREWING_SOURCE_DIR "/tests/data/formats/reference.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("note"), "naïve \"quotes\"");
  int dtypes = 0;
  for (const auto& [name, view] : file.tensors()) {
    if (name == "scalar" || name == "empty") continue;
    ++dtypes;
    EXPECT_EQ(name, to_string(view.dtype));
    EXPECT_EQ(view.shape, (Shape{3, 5}));
    ASSERT_EQ(view.bytes.size(), 15 * size_of(view.dtype));
    for (std::size_t i = 0; i < view.bytes.size(); ++i)
      EXPECT_EQ(std::to_integer<int>(view.bytes[i]),
                view.dtype == DType::kBool ? static_cast<int>(i % 2) : static_cast<int>(i));
  }
  EXPECT_EQ(dtypes, 16);
  EXPECT_EQ(file.tensors().at("scalar").shape, Shape{});
  float scalar = 0;
  std::memcpy(&scalar, file.tensors().at("scalar").bytes.data(), sizeof scalar);
  EXPECT_EQ(scalar, 2.5f);
  EXPECT_EQ(file.tensors().at("empty").shape, (Shape{0, 7}));
  EXPECT_TRUE(file.tensors().at("empty").bytes.empty());
  file.release(file.tensors().at("F64").bytes);
  EXPECT_EQ(std::to_integer<int>(file.tensors().at("F64").bytes[119]), 119);
}

TEST(Safetensors, TensorsMayStartAtAnyByteAndInAnyOrder) {
  const auto bytes = safetensors_bytes(
      R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}  )",
      std::string("\x07\x00\x00\x80\x3f", 5));
  const SafetensorsContent content = parse(bytes);
  EXPECT_EQ(std::to_integer<int>(content.tensors.at("a").bytes[0]), 7);
  float one = 0;
  std::memcpy(&one, content.tensors.at("b").bytes.data(), sizeof one);
  EXPECT_EQ(one, 1.0f);
}

TEST(Safetensors, AcceptsNoTensors) { EXPECT_TRUE(parse(safetensors_bytes("{}")).tensors.empty()); }

TEST(Safetensors, RefusesBadLengths) {
  expect_refused("too short", "");
  expect_refused("too short", "\x02");
  expect_refused("truncated", safetensors_bytes("{}", "", 3));
  expect_refused("truncated", safetensors_bytes("", "", 1));
  expect_refused("at most 100000000", safetensors_bytes("{}", "", 100000001));
  expect_refused("at most 100000000", safetensors_bytes("{}", "", ~std::uint64_t{0}));
  expect_refused("does not start with '{'", safetensors_bytes(""));
  expect_refused("does not start with '{'", safetensors_bytes(" {}"));
}

TEST(Safetensors, RefusesBadHeaders) {
  expect_refused("malformed", safetensors_bytes("{"));
  expect_refused("malformed", safetensors_bytes("{}x"));
  expect_refused("malformed", safetensors_bytes("{\"\xff\":1}"));
  expect_refused("is not an object", safetensors_bytes("{\"w\":" + std::string(100000, '[')));
  expect_refused("duplicate", safetensors_bytes(R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
                                                R"("w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"));
  expect_refused("__metadata__ is not an object", safetensors_bytes(R"({"__metadata__":[]})"));
  expect_refused("\"a\" is not a string", safetensors_bytes(R"({"__metadata__":{"a":1}})"));
  expect_refused("is not an object", safetensors_bytes(R"({"w":3})"));
}

TEST(Safetensors, RefusesBadFields) {
  const std::string shape = R"("shape":[2],)";
  const std::string dtype = R"("dtype":"U8",)";
  const std::string offsets = R"("data_offsets":[0,2])";
  const auto refuse = [](const std::string& text, const std::string& entry,
                         ErrorCode code = ErrorCode::kCorrupt) {
    expect_refused(text, safetensors_bytes(header_of(entry), "ab"), code);
  };
  EXPECT_EQ(parse(safetensors_bytes(header_of(dtype + shape + offsets), "ab")).tensors.size(), 1u);
  refuse("\"dtype\" is missing", shape + offsets);
  refuse("\"shape\" is missing", dtype + offsets);
  refuse("\"data_offsets\" is missing", dtype + R"("shape":[2])");
  refuse("unknown field \"extra\"", dtype + shape + R"("extra":1,)" + offsets);
  refuse("dtype is not a string", R"("dtype":3,)" + shape + offsets);
  refuse("unknown dtype \"F4\"", R"("dtype":"F4",)" + shape + offsets, ErrorCode::kUnsupported);
  refuse("shape is not an array", dtype + R"("shape":2,)" + offsets);
  for (const char* extent : {"-2", "2.0", "\"2\"", "null", "9223372036854775808", "1e3", "[2]"})
    refuse("not an extent", dtype + R"("shape":[)" + extent + "]," + offsets);
  refuse("too many elements", dtype + R"("shape":[4611686018427387904,4],)" + offsets);
  refuse("too many elements", dtype + R"("shape":[4294967296,4294967296,2],)" + offsets);
  refuse("hold 2 bytes", dtype + R"("shape":[3],)" + offsets);
  refuse("hold 2 bytes", dtype + R"("shape":[],)" + offsets);
  refuse("hold 2 bytes", dtype + R"("shape":[0],)" + offsets);
  refuse("hold 2 bytes", R"("dtype":"F32",)" + shape + offsets);
  // The product of extents and size is 2 modulo 2^64.
  refuse("hold 2 bytes", R"("dtype":"F64","shape":[2305843009213693952],)" + offsets);
  refuse("not a pair", dtype + shape + R"("data_offsets":[0,1,2])");
  refuse("not a pair", dtype + shape + R"("data_offsets":[0])");
  refuse("not a pair", dtype + shape + R"("data_offsets":{"a":0,"b":2})");
  refuse("not unsigned", dtype + shape + R"("data_offsets":[-1,1])");
  refuse("not unsigned", dtype + shape + R"("data_offsets":[0,2.0])");
  refuse("end before they begin", dtype + shape + R"("data_offsets":[2,0])");
  refuse("beyond the 2 data bytes", dtype + shape + R"("data_offsets":[1,3])");
  refuse("beyond the 2 data bytes",
         dtype + shape + R"("data_offsets":[18446744073709551613,18446744073709551615])");
}

// What a small header could make large in memory.
TEST(Safetensors, RefusesTooMuch) {
  const auto repeat = [](std::string_view text, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
  };
  const std::string tail = R"(],"data_offsets":[0,0]}})";
  const std::string head = R"({"w":{"dtype":"U8","shape":[)";
  EXPECT_EQ(parse(safetensors_bytes(head + repeat("0,", 31) + "0" + tail)).tensors.at("w").shape.rank(), 32u);
  expect_refused("more than 32 extents", safetensors_bytes(head + repeat("0,", 1000000) + "0" + tail));
  expect_refused("not an extent", safetensors_bytes(head + repeat("[],", 1000000) + "0" + tail));
  const auto metadata = [](int fields) {
    std::string text = R"({"__metadata__":{)";
    for (int i = 0; i < fields; ++i) text += fmt::format("{}\"{}\":\"\"", i == 0 ? "" : ",", i);
    return safetensors_bytes(text + "}}");
  };
  EXPECT_EQ(parse(metadata(65536)).metadata.size(), 65536u);
  expect_refused("more than 65536 fields", metadata(65537));
  expect_refused("duplicate key \"a\"", safetensors_bytes(R"({"__metadata__":{"a":"","a":""}})"));
  expect_refused("duplicate key \"__metadata__\"",
                 safetensors_bytes(R"({"__metadata__":{},"__metadata__":{}})"));
  expect_refused("duplicate key \"shape\"", safetensors_bytes(R"({"w":{"shape":[],"shape":[]}})"));
}

TEST(Safetensors, RefusesOverlapsAndGaps) {
  const auto two = [](int a_begin, int a_end, int b_begin, int b_end) {
    return safetensors_bytes(fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
                                         R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                                         a_end - a_begin, a_begin, a_end, b_end - b_begin, b_begin, b_end),
                             "12345678");
  };
  EXPECT_EQ(parse(two(0, 4, 4, 8)).tensors.size(), 2u);
  EXPECT_EQ(parse(two(4, 8, 0, 4)).tensors.size(), 2u);
  EXPECT_EQ(parse(two(0, 8, 8, 8)).tensors.size(), 2u);
  expect_refused("\"a\" and \"b\" overlap", two(0, 5, 4, 8));
  expect_refused("overlap", two(0, 8, 0, 8));
  expect_refused("overlap", two(0, 8, 3, 3));
  expect_refused("1 data bytes before tensor \"b\"", two(0, 3, 4, 8));
  expect_refused("2 data bytes before tensor \"a\"", two(2, 4, 4, 8));
  expect_refused("1 bytes after the last tensor", two(0, 4, 4, 7));
  expect_refused("8 bytes after the last tensor", safetensors_bytes("{}", "12345678"));
}

TEST(Safetensors, MessagesStayOnOneLine) {
  expect_refused("tensor \"a\\x0ab\\x1b\": dtype is not a string",
                 safetensors_bytes(R"({"a\nb\u001b":{"dtype":3,"shape":[],"data_offsets":[0,0]}})"));
  expect_refused("...", safetensors_bytes("{\"" + std::string(100000, 'n') + "\":3}"));
}

TEST(Safetensors, TruncatedAtEveryByteIsRefused) {
  const std::string bytes = safetensors_of({{"a", "F32", "[2]", "12345678"}, {"b", "U8", "[3]", "abc"}});
  EXPECT_EQ(parse(bytes).tensors.size(), 2u);
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_THROW(parse(bytes.substr(0, length)), Error) << length;
}

TEST(SafetensorsFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  expect_error(ErrorCode::kNotFound, "absent", [&] { SafetensorsFile(folder.path() / "absent"); });
  expect_error(ErrorCode::kIo, folder.path().string(), [&] { SafetensorsFile(folder.path()); });
  const auto empty = folder.write("empty.safetensors", "");
  expect_error(ErrorCode::kCorrupt, "has 0 bytes", [&] { SafetensorsFile{empty}; });
}

}  // namespace
}  // namespace sabrewing::formats
