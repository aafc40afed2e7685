#include <algorithm>

#include "text/chat/stage.h"

namespace sabrewing::text::chat {
namespace {

/// Whether `text` is exactly one JSON object; `out` becomes its text.
bool read_object(std::string_view text, std::string& out) {
  text = trimmed(text);
  if (!text.starts_with('{')) return false;
  JsonValue value;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const JsonValue::Step step = value.put(text[at], out);
    if (step == JsonValue::Step::kDone) return at + 1 == text.size();
    if (step != JsonValue::Step::kMore) return false;
  }
  return false;
}

/// The members of one call, byte by byte.
class CallObject {
 public:
  enum class Step { kMore, kDone, kBroken };

  /// Bytes of arguments that may be given out go to `arguments`.
  Step put(char c, std::string& arguments) {
    switch (part_) {
      case Part::kBrace:
        part_ = Part::kKeyOrEnd;
        return Step::kMore;
      case Part::kKeyOrEnd:
      case Part::kKey:
        if (is_space(c)) return Step::kMore;
        if (c == '}' && part_ == Part::kKeyOrEnd) return finish();
        if (c != '"') return Step::kBroken;
        part_ = Part::kKeyText;
        begin_text();
        reader_.put(c, text_);
        return Step::kMore;
      case Part::kKeyText:
        return key_byte(c);
      case Part::kColon:
        if (c == ':') {
          part_ = Part::kValue;
          begin_text();
          return Step::kMore;
        }
        return is_space(c) ? Step::kMore : Step::kBroken;
      case Part::kValue:
        return value_byte(c, arguments);
      case Part::kAfter:
        break;
    }
    return after_byte(c);
  }

  /// The name is known and arguments have begun, or the call is done.
  bool certain() const { return certain_; }
  bool arguments_complete() const { return certain_ && has_arguments_ && !in_arguments(); }
  const std::string& name() const { return name_; }

 private:
  enum class Part { kBrace, kKeyOrEnd, kKey, kKeyText, kColon, kValue, kAfter };

  void begin_text() {
    reader_ = JsonValue();
    text_.clear();
  }

  bool in_arguments() const { return part_ == Part::kValue && is_arguments_; }

  Step key_byte(char c) {
    const JsonValue::Step step = reader_.put(c, text_);
    if (step == JsonValue::Step::kBroken || text_.size() > kMaxName) return Step::kBroken;
    if (step != JsonValue::Step::kDone) return Step::kMore;
    is_name_ = text_ == "\"name\"";
    is_arguments_ = text_ == "\"arguments\"" || text_ == "\"parameters\"";
    if ((is_name_ && has_name_) || (is_arguments_ && has_arguments_)) return Step::kBroken;
    part_ = Part::kColon;
    return Step::kMore;
  }

  Step value_byte(char c, std::string& arguments) {
    if (text_.empty()) {
      if (is_space(c)) return Step::kMore;
      first_ = c;
      if (is_name_ && c != '"') return Step::kBroken;
      if (is_arguments_) {
        if (c != '{' && c != '"' && c != 'n') return Step::kBroken;
        has_arguments_ = true;
        certain_ = has_name_ && c == '{';
      }
    }
    const std::size_t before = text_.size();
    const JsonValue::Step step = reader_.put(c, text_);
    if (step == JsonValue::Step::kBroken) return Step::kBroken;
    if (is_arguments_ && certain_) arguments += text_.substr(before);
    // One byte stands for "begun"; the rest need not be kept.
    if ((is_arguments_ && certain_) || (!is_arguments_ && !is_name_)) text_.resize(1);
    if (step == JsonValue::Step::kMore) return Step::kMore;
    part_ = Part::kAfter;
    if (!end_value()) return Step::kBroken;
    return step == JsonValue::Step::kDoneBefore ? after_byte(c) : Step::kMore;
  }

  bool end_value() {
    if (is_name_) {
      has_name_ = decode(name_);
      return has_name_ && !name_.empty() && name_.size() <= kMaxName;
    }
    if (!is_arguments_ || certain_) return true;
    if (first_ == 'n') {
      kept_ = "{}";
      return true;
    }
    if (std::string text; first_ == '"') return decode(text) && read_object(text, kept_);
    kept_ = text_;
    return true;
  }

  /// The string that was read; false for malformed UTF-8.
  bool decode(std::string& out) const {
    const Json string = Json::parse(text_, nullptr, false);
    if (!string.is_string()) return false;
    out = string.get<std::string>();
    return true;
  }

  Step after_byte(char c) {
    if (c == '}') return finish();
    if (c == ',') part_ = Part::kKey;
    return c == ',' || is_space(c) ? Step::kMore : Step::kBroken;
  }

  Step finish() {
    if (!has_name_) return Step::kBroken;
    certain_ = true;
    return Step::kDone;
  }

 public:
  /// Arguments that were complete before the call was certain.
  std::string kept() const { return has_arguments_ ? kept_ : "{}"; }

 private:
  Part part_ = Part::kBrace;
  JsonValue reader_;
  std::string text_;  ///< of the key or value being read
  char first_ = 0;    ///< byte of the value
  std::string name_;
  std::string kept_;
  bool is_name_ = false;
  bool is_arguments_ = false;
  bool has_name_ = false;
  bool has_arguments_ = false;
  bool certain_ = false;
};

class JsonCallStage final : public CallStage {
 public:
  explicit JsonCallStage(JsonCallFormat format) : format_(std::move(format)) {
    edges_ = format_.close;
    edges_.insert(edges_.end(), format_.open.begin(), format_.open.end());
    name_ends_ = format_.named;
    name_ends_.emplace_back("{");
    if (format_.bare) state_ = State::kStart;
  }

  bool step(Tape& tape, Answer& answer) override {
    switch (state_) {
      case State::kStart:
        return start(tape, answer);
      case State::kContent:
        return content(tape, answer);
      case State::kSection:
        return section(tape, answer);
      case State::kObject:
        return object(tape, answer);
      case State::kName:
        return name(tape, answer);
      case State::kArguments:
        return named_arguments(tape, answer);
      case State::kDrain:
        break;
    }
    return drain(tape, answer);
  }

  std::vector<std::string> openers() const override { return format_.open; }
  bool is_markup(std::string_view token) const override {
    return contains(edges_, token) || contains(format_.named, token);
  }

 private:
  enum class State { kStart, kContent, kSection, kObject, kName, kArguments, kDrain };

  bool go(State state) {
    state_ = state;
    return true;
  }

  bool lose(Answer& answer, State state) {
    give_up(answer);
    return go(state);
  }

  void open_section() {
    used_ = list_ = false;
    state_ = State::kSection;
  }

  /// A call may stand at the very beginning.
  bool start(Tape& tape, Answer& answer) {
    hold_space(tape);
    if (tape.empty() && !tape.ended()) return false;
    if (tape.rest().starts_with('{')) {
      open_section();
      return true;
    }
    return lose(answer, State::kContent);
  }

  bool content(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(format_.open);
    answer.content(tape.take(found.before));
    if (!found.marker) return false;
    hold(tape, format_.open[*found.marker].size());
    open_section();
    return true;
  }

  bool section(Tape& tape, Answer& answer) {
    hold_space(tape);
    if (tape.empty()) {
      if (tape.ended()) give_up(answer);
      return false;
    }
    bool undecided = false;
    for (const std::string& edge : edges_) {
      const Tape::Match match = tape.match(edge);
      undecided = undecided || match == Tape::Match::kMore;
      if (match != Tape::Match::kYes) continue;
      const bool closes = &edge < edges_.data() + format_.close.size();
      if (closes) hold(tape, edge.size());
      if (used_) held_.clear();
      return lose(answer, State::kContent);
    }
    if (undecided) return false;
    const char c = tape.rest().front();
    if (c == '{') {
      call_ = CallObject();
      announced_ = false;
      return go(State::kObject);
    }
    if (format_.list && c == '[' && !list_ && !used_) {
      hold(tape, 1);
      list_ = true;
      return true;
    }
    if (list_ && c == ']') {
      hold(tape, 1);
      if (used_) held_.clear();
      return lose(answer, State::kContent);
    }
    if (used_ && format_.separators.find(c) != std::string_view::npos) {
      hold(tape, 1);
      return true;
    }
    if (!format_.named.empty() && !used_ && !list_) {
      id_.clear();
      name_.clear();
      return go(State::kName);
    }
    return lose(answer, after_break());
  }

  State after_break() const { return used_ && !format_.close.empty() ? State::kDrain : State::kContent; }

  bool object(Tape& tape, Answer& answer) {
    const std::string_view rest = tape.rest();
    std::string arguments;
    auto result = CallObject::Step::kMore;
    std::size_t used = 0;
    while (used < rest.size() && result == CallObject::Step::kMore) {
      const bool was_complete = call_.arguments_complete();
      result = call_.put(rest[used], arguments);
      if (result == CallObject::Step::kBroken) break;
      if (!announced_) held_ += rest[used];
      ++used;
      if (!announced_ && call_.certain()) {
        announce(answer, call_.name(), {});
        if (result == CallObject::Step::kDone) arguments = call_.kept();
      } else if (!announced_ && held_too_much()) {
        result = CallObject::Step::kBroken;
      }
      if (announced_ && !was_complete && (call_.arguments_complete() || result == CallObject::Step::kDone)) {
        answer.arguments(arguments);
        arguments.clear();
        answer.end_call();
        used_ = true;
      }
    }
    tape.take(used);
    answer.arguments(arguments);
    if (result == CallObject::Step::kDone) return go(State::kSection);
    if (result == CallObject::Step::kBroken) {
      used_ = used_ || announced_;
      return lose(answer, after_break());
    }
    if (tape.ended() && !announced_) give_up(answer);
    return false;
  }

  bool name(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(name_ends_);
    const bool short_enough = found.before <= kMaxName;
    if (!found.marker && short_enough && !tape.ended()) return false;
    const std::string_view text = trimmed(tape.rest().substr(0, found.before));
    const bool fits = short_enough && std::none_of(text.begin(), text.end(), is_space);
    if (!found.marker || !fits || (name_.empty() && text.empty())) return lose(answer, State::kContent);
    (name_.empty() ? name_ : id_) = text;
    hold(tape, found.before);
    const bool brace = *found.marker + 1 == name_ends_.size();
    if (!brace) hold(tape, name_ends_[*found.marker].size());
    if (!brace && *found.marker == 0 && id_.empty()) return true;
    begin_arguments();
    announced_ = false;
    return go(State::kArguments);
  }

  bool named_arguments(Tape& tape, Answer& answer) {
    switch (pump_arguments(tape, answer, announced_ ? nullptr : &name_, id_)) {
      case Arguments::kMore:
        if (!tape.ended()) return false;
        return announced_ ? false : lose(answer, State::kContent);
      case Arguments::kDone:
        used_ = true;
        return go(State::kSection);
      case Arguments::kBroken:
        break;
    }
    return lose(answer, State::kContent);
  }

  /// What is left of a broken call, up to the next marker.
  bool drain(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(edges_);
    answer.content(tape.take(found.before));
    if (!found.marker) return false;
    if (*found.marker < format_.close.size()) tape.take(edges_[*found.marker].size());
    return go(State::kContent);
  }

  JsonCallFormat format_;
  std::vector<std::string> edges_;      ///< closing, then opening markers
  std::vector<std::string> name_ends_;  ///< of a name before its arguments; the last is the brace
  State state_ = State::kContent;
  bool used_ = false;  ///< the section held a call
  bool list_ = false;  ///< inside a JSON list
  CallObject call_;
  std::string name_;
  std::string id_;
};

}  // namespace

std::unique_ptr<Stage> make_json_call_stage(JsonCallFormat format) {
  return std::make_unique<JsonCallStage>(std::move(format));
}

}  // namespace sabrewing::text::chat
