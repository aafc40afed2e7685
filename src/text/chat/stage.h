#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "text/chat/answer.h"
#include "text/chat/json_value.h"
#include "text/chat/tape.h"

namespace sabrewing::text::chat {

/// Bytes of a function's or a parameter's name, with the white space and quotes around it: what is decided
/// before the name has ended must not change when they turn out to be none of it.
inline constexpr std::size_t kMaxName = 256;
/// Bytes of a call that are held back before it is known to be one, and of a value that is converted.
inline constexpr std::size_t kMaxHeld = std::size_t{1} << 20;

/// Before the name of a function, in markup that has names of other kinds.
inline constexpr std::string_view kFunctions = "functions.";

/// One level of the markup.
class Stage {
 public:
  Stage() = default;
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  virtual ~Stage() = default;

  /// Consumes a piece of the tape. False: everything certain is consumed, all of it at the tape's end.
  virtual bool step(Tape& tape, Answer& answer) = 0;
  /// The whole level is over: the next one takes the rest of the tape.
  virtual bool over() const { return false; }
  /// Texts that open a call.
  virtual std::vector<std::string> openers() const { return {}; }
  /// Whether `token` is markup of this level.
  virtual bool is_markup(std::string_view) const { return false; }
  /// A token of the answer, before its text.
  virtual void note_token(std::int32_t) {}
};

/// What formats of tool calls share: text that may become a call is kept until it certainly is one.
class CallStage : public Stage {
 protected:
  static bool contains(const std::vector<std::string>& list, std::string_view token) {
    return std::find(list.begin(), list.end(), token) != list.end();
  }

  /// Takes `count` bytes that may turn out to be no call.
  std::string_view hold(Tape& tape, std::size_t count) {
    const std::string_view taken = tape.take(count);
    held_ += taken;
    return taken;
  }
  void hold_space(Tape& tape) { hold(tape, leading_space(tape.rest())); }
  bool held_too_much() const { return held_.size() > kMaxHeld; }

  void announce(Answer& answer, std::string_view name, std::string_view id) {
    held_.clear();
    announced_ = true;
    answer.begin_call(name, id);
  }
  /// What was held is content after all.
  void give_up(Answer& answer) {
    answer.content(held_);
    held_.clear();
  }

  enum class Arguments { kMore, kDone, kBroken };

  /// Ready for the arguments of a call.
  void begin_arguments() { value_ = JsonValue(); }
  /// Moves one JSON object from the tape to the arguments of the call, which `announce` has begun or, with
  /// `name`, which begins with the object. White space before it belongs to the markup. At most `limit`
  /// bytes.
  Arguments pump_arguments(Tape& tape, Answer& answer, const std::string* name, std::string_view id,
                           std::size_t limit = std::string_view::npos);

  std::string held_;
  bool announced_ = false;  ///< the call being read was given out
  JsonValue value_;
};

/// Everything is content.
class ContentStage final : public Stage {
 public:
  bool step(Tape& tape, Answer& answer) override {
    answer.content(tape.take(tape.rest().size()));
    return false;
  }
};

enum class Thinking {
  kUnknown,  ///< an opening marker may come
  kOpen,     ///< the answer starts inside the reasoning
  kClosed,   ///< no reasoning comes
};

struct ThinkMarkers {
  std::string open;
  std::string close;
};

/// Reasoning at the start of an answer. `implicit_ends` are openers of calls.
std::unique_ptr<Stage> make_think_stage(std::vector<ThinkMarkers> markers, Thinking start,
                                        std::vector<std::string> implicit_ends);

/// JSON objects with "name" and "arguments" (or "parameters").
struct JsonCallFormat {
  std::vector<std::string> open;   ///< start of a section
  std::vector<std::string> close;  ///< end of a section; none: it ends with what is no call
  std::string_view separators;     ///< single characters between calls
  bool bare = false;               ///< an answer may start with a call, without a marker
  bool list = false;               ///< the calls of a section may be one JSON list
  /// The section may hold name and arguments instead; these markers may stand after the name, the first
  /// before the call's id, the second before the arguments.
  std::vector<std::string> named;
};
std::unique_ptr<Stage> make_json_call_stage(JsonCallFormat format);

/// Sections of calls with markers around name and arguments.
struct MarkedCallFormat {
  std::vector<std::string> section_open;
  std::string section_close;
  std::string call_open;
  std::string name_close;
  std::string call_close;
  bool kimi_ids = false;  ///< the name is written "functions.NAME:INDEX" and is the call's id
  /// The name may stand on a line of its own after `name_close`, the arguments in a fenced block.
  bool fenced = false;
};
std::unique_ptr<Stage> make_marked_call_stage(MarkedCallFormat format);

/// Calls with one tag per parameter.
struct TaggedCallFormat {
  std::vector<std::string> section_open;
  std::vector<std::string> section_close;
  std::string call_open;   ///< up to the name; empty: the name follows the section's opening
  std::string call_close;  ///< empty: the section's end
  std::string key_open;
  std::string key_close;   ///< empty: the key is an attribute, up to ">"
  std::string value_open;  ///< empty: the value follows the key
  std::string value_close;
  bool bare_calls = false;        ///< `call_open` may stand outside a section
  bool lenient_values = false;    ///< the next parameter or the call's end closes a value, too
  bool trim_newline = false;      ///< a newline at either end of a value is markup
  bool string_attribute = false;  ///< string="true" beside a key: text; "false": JSON
  bool unknown_is_json = false;   ///< values without a schema are JSON where they can be
};
std::unique_ptr<Stage> make_tagged_call_stage(TaggedCallFormat format, OrderedJson tools);

/// gpt-oss. Without `tokenizer` markers are known by their text alone. `parse_tools`: messages to functions
/// are calls.
std::unique_ptr<Stage> make_harmony_stage(const Tokenizer* tokenizer, bool parse_tools,
                                          std::string_view prompt);

}  // namespace sabrewing::text::chat
