#include "core/json.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace sabrewing {
namespace {

TEST(Json, ReadsValuesAndKeepsOrder) {
  EXPECT_EQ(parse_json(R"({"a": [1, 2.5, "x"]})", "t")["a"][1], 2.5);
  EXPECT_EQ(parse_ordered_json(R"({"b":1,"a":2})", "t").dump(), R"({"b":1,"a":2})");
}

TEST(Json, RefusesHostileText) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      parse_json(text, "file.json");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message(std::string(100000, '[')), "[json] file.json: nested deeper than 64 levels");
  EXPECT_EQ(message(R"({"a":1,"a":2})"), "[json] file.json: duplicate key \"a\"");
  EXPECT_EQ(message(R"({"\n":1,"\n":2})"), "[json] file.json: duplicate key \"\\x0a\"");
  EXPECT_EQ(message("{\"a\":"), "[json] file.json: malformed JSON at byte 6");
  EXPECT_NE(message("\"\xff\""), "accepted");
  EXPECT_NE(message(""), "accepted");
  EXPECT_NE(message("1 2"), "accepted");
}

}  // namespace
}  // namespace sabrewing
