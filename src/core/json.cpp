#include "core/json.h"

#include <unordered_set>
#include <vector>

#include "core/error.h"
#include "core/printable.h"

namespace sabrewing {
namespace {

/// nlohmann's parser recurses while it destroys a deep value and keeps the last of duplicate keys, so
/// depth and keys are checked on the event stream before a value is built.
class Checker final : public nlohmann::json_sax<Json> {
 public:
  Checker(std::string_view what, std::size_t max_depth) : what_(what), max_depth_(max_depth) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    SABREWING_CHECK(keys_.back().insert(name).second, kCorrupt, "[json] {}: duplicate key {}", what_,
                    printable(name));
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail(ErrorCode::kCorrupt, "[json] {}: malformed JSON at byte {}", what_, position);
  }

 private:
  bool enter() {
    keys_.emplace_back();
    SABREWING_CHECK(keys_.size() <= max_depth_, kCorrupt, "[json] {}: nested deeper than {} levels", what_,
                    max_depth_);
    return true;
  }
  bool leave() {
    keys_.pop_back();
    return true;
  }

  std::string_view what_;
  std::size_t max_depth_;
  std::vector<std::unordered_set<std::string>> keys_;
};

template <typename Value>
Value parse(std::string_view text, std::string_view what, std::size_t max_depth) {
  Checker checker(what, max_depth);
  Json::sax_parse(text.begin(), text.end(), &checker);
  return Value::parse(text.begin(), text.end());
}

}  // namespace

Json parse_json(std::string_view text, std::string_view what, std::size_t max_depth) {
  return parse<Json>(text, what, max_depth);
}

OrderedJson parse_ordered_json(std::string_view text, std::string_view what, std::size_t max_depth) {
  return parse<OrderedJson>(text, what, max_depth);
}

}  // namespace sabrewing
