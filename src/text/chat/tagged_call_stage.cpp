#include <optional>

#include "text/chat/stage.h"
#include "text/chat/tool_schema.h"

namespace sabrewing::text::chat {
namespace {

/// A name as an attribute gives it, perhaps in quotes.
std::string_view unquoted(std::string_view text) {
  text = trimmed(text);
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front())
    text = trimmed(text.substr(1, text.size() - 2));
  return text;
}

class TaggedCallStage final : public CallStage {
 public:
  TaggedCallStage(TaggedCallFormat format, OrderedJson tools)
      : format_(std::move(format)), tools_(std::move(tools)) {
    starts_ = format_.section_open;
    if (format_.bare_calls) starts_.push_back(format_.call_open);
    if (format_.call_open.empty()) {
      name_ends_ = {format_.key_open};
      name_ends_.insert(name_ends_.end(), format_.section_close.begin(), format_.section_close.end());
    } else {
      name_ends_ = {">"};
    }
    key_ends_ = {format_.key_close.empty() ? ">" : format_.key_close};
    body_marks_ = {format_.key_open};
    if (!format_.call_close.empty()) body_marks_.push_back(format_.call_close);
    closes_ = body_marks_.size();
    for (const auto* list : {&format_.section_close, &starts_})
      body_marks_.insert(body_marks_.end(), list->begin(), list->end());
    if (!format_.call_open.empty()) section_marks_.push_back(format_.call_open);
    for (const auto* list : {&format_.section_close, &starts_})
      section_marks_.insert(section_marks_.end(), list->begin(), list->end());
    value_ends_ = {format_.value_close};
    if (format_.lenient_values) {
      value_ends_.push_back(format_.key_open);
      value_ends_.push_back(format_.call_close);
    }
  }

  bool step(Tape& tape, Answer& answer) override {
    switch (state_) {
      case State::kContent:
        return content(tape, answer);
      case State::kSection:
        return section(tape, answer);
      case State::kName:
        return name(tape, answer);
      case State::kBody:
        return body(tape, answer);
      case State::kKey:
        return key(tape, answer);
      case State::kBeforeValue:
        return before_value(tape, answer);
      case State::kValue:
        break;
    }
    return value(tape, answer);
  }

  std::vector<std::string> openers() const override { return starts_; }
  bool is_markup(std::string_view token) const override {
    return contains(body_marks_, token) || contains(key_ends_, token) || contains(value_ends_, token) ||
           token == format_.value_open;
  }

 private:
  enum class State { kContent, kSection, kName, kBody, kKey, kBeforeValue, kValue };

  bool go(State state) {
    state_ = state;
    return true;
  }

  bool lose(Answer& answer) {
    give_up(answer);
    return go(State::kContent);
  }

  /// At the tape's end what is held will never become a call.
  bool wait(Tape& tape, Answer& answer) {
    if (!tape.ended()) return false;
    hold(tape, tape.rest().size());
    give_up(answer);
    return false;
  }

  bool content(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(starts_);
    answer.content(tape.take(found.before));
    if (!found.marker) return false;
    used_ = false;
    // A call outside a section is seen again inside one.
    if (*found.marker < format_.section_open.size()) {
      hold(tape, format_.section_open[*found.marker].size());
      if (format_.call_open.empty()) return go(State::kName);
    }
    return go(State::kSection);
  }

  /// Before the first call of a section.
  bool section(Tape& tape, Answer& answer) {
    if (used_) return next_call(tape, answer);
    hold_space(tape);
    if (tape.empty()) return wait(tape, answer);
    bool undecided = false;
    const auto follows = [&](const std::string& marker) {
      const Tape::Match match = tape.match(marker);
      undecided = undecided || match == Tape::Match::kMore;
      return match == Tape::Match::kYes;
    };
    if (!format_.call_open.empty() && follows(format_.call_open)) {
      hold(tape, format_.call_open.size());
      return go(State::kName);
    }
    for (const std::string& close : format_.section_close) {
      if (!follows(close)) continue;
      hold(tape, close.size());
      return lose(answer);
    }
    return undecided ? wait(tape, answer) : lose(answer);
  }

  /// In a section that held a call. What does not belong there is content.
  bool next_call(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(section_marks_);
    answer.content(tape.take(found.before));
    if (!found.marker) return false;
    const std::string& marker = section_marks_[*found.marker];
    if (marker == format_.call_open) {
      hold(tape, marker.size());
      return go(State::kName);
    }
    const auto& closes = format_.section_close;
    if (contains(closes, marker)) tape.take(marker.size());
    return go(State::kContent);
  }

  bool name(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(name_ends_);
    const std::string_view between = trimmed(tape.rest().substr(0, found.before));
    const bool fits = found.before <= kMaxName && between.find_first_of("<\n") == std::string_view::npos;
    const std::string_view text = unquoted(between);
    if (!fits || (found.marker && text.empty())) return lose(answer);
    if (!found.marker) return wait(tape, answer);
    name_ = text;
    hold(tape, found.before);
    if (!format_.call_open.empty()) tape.take(name_ends_[*found.marker].size());
    announce(answer, name_, {});
    used_ = true;
    first_ = true;
    return go(State::kBody);
  }

  /// Between the parameters of a call. What does not belong there is content.
  bool body(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(body_marks_);
    answer.content(tape.take(found.before));
    if (!found.marker) return false;
    if (*found.marker == 0) {
      hold(tape, format_.key_open.size());
      return go(State::kKey);
    }
    answer.arguments(first_ ? "{}" : "}");
    answer.end_call();
    if (*found.marker < closes_) {
      tape.take(body_marks_[*found.marker].size());
      return go(State::kSection);
    }
    const bool section_closes = *found.marker < closes_ + format_.section_close.size();
    if (section_closes) tape.take(body_marks_[*found.marker].size());
    return go(State::kContent);
  }

  bool key(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(key_ends_);
    const std::string_view text = tape.rest().substr(0, found.before);
    if (text.size() > kMaxName) return drop_key(answer);
    if (!found.marker) return wait(tape, answer);
    std::string_view key = text;
    string_.reset();
    if (format_.string_attribute) {
      if (text.find("string=\"true\"") != std::string_view::npos) string_ = true;
      if (text.find("string=\"false\"") != std::string_view::npos) string_ = false;
      const std::size_t end = text.starts_with('"') ? text.find('"', 1) : text.find_first_of(" \n");
      if (end != std::string_view::npos) key = text.substr(0, end + 1);
    }
    key_ = unquoted(key);
    if (key_.empty()) return drop_key(answer);
    hold(tape, found.before + key_ends_[0].size());
    return go(State::kBeforeValue);
  }

  /// A malformed parameter is content; the call goes on after it.
  bool drop_key(Answer& answer) {
    give_up(answer);
    return go(State::kBody);
  }

  bool before_value(Tape& tape, Answer& answer) {
    if (!format_.value_open.empty()) {
      hold_space(tape);
      const Tape::Match match = tape.match(format_.value_open);
      if (match == Tape::Match::kMore) return wait(tape, answer);
      if (match == Tape::Match::kNo) return drop_key(answer);
      hold(tape, format_.value_open.size());
    }
    held_.clear();
    types_ = parameter_types(tools_, name_, key_);
    bool text = types_.known ? types_.only_string() : !format_.unknown_is_json;
    if (string_.has_value()) {
      text = *string_;
      // The model says that it wrote JSON.
      if (!text) types_ = ValueTypes();
    }
    streams_ = text;
    std::string start = first_ ? "{\"" : ", \"";
    append_json_escaped(start, key_);
    start += streams_ ? "\": \"" : "\": ";
    answer.arguments(start);
    first_ = false;
    value_begins_ = true;
    value_.clear();
    newline_.clear();
    return go(State::kValue);
  }

  bool value(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(value_ends_);
    add_value(tape.take(found.before), answer);
    if (!found.marker) {
      if (tape.ended()) end_value(answer, false);
      return false;
    }
    if (*found.marker == 0) tape.take(format_.value_close.size());
    end_value(answer, true);
    return go(State::kBody);
  }

  void add_value(std::string_view text, Answer& answer) {
    if (text.empty()) return;
    std::string whole;
    if (format_.trim_newline) {
      if (value_begins_ && text.front() == '\n') text.remove_prefix(1);
      value_begins_ = false;
      if (text.empty()) return;
      whole = newline_;
      newline_.clear();
      if (text.back() == '\n') {
        newline_ = "\n";
        text.remove_suffix(1);
      }
    }
    whole += text;
    if (!streams_) {
      value_ += whole;
      if (value_.size() <= kMaxHeld) return;
      // Too long to be converted: it goes on as a string.
      streams_ = true;
      answer.arguments("\"");
      whole.swap(value_);
      value_.clear();
    }
    std::string escaped;
    append_json_escaped(escaped, whole);
    answer.arguments(escaped);
  }

  /// `complete`: the value's end was seen.
  void end_value(Answer& answer, bool complete) {
    if (!complete) {
      // The answer was cut: the argument stays unfinished.
      if (streams_)
        add_value_end(answer);
      else
        answer.arguments(value_);
      value_.clear();
      return;
    }
    if (streams_)
      answer.arguments("\"");
    else
      answer.arguments(value_json(value_, types_, format_.unknown_is_json || string_.has_value()));
  }

  void add_value_end(Answer& answer) {
    std::string escaped;
    append_json_escaped(escaped, newline_);
    newline_.clear();
    answer.arguments(escaped);
  }

  TaggedCallFormat format_;
  OrderedJson tools_;
  std::vector<std::string> starts_;  ///< of sections, then of a bare call
  std::vector<std::string> name_ends_;
  std::vector<std::string> key_ends_;
  std::vector<std::string> section_marks_;
  std::vector<std::string> value_ends_;  ///< the first is consumed
  std::vector<std::string> body_marks_;  ///< a parameter, the call's end, section ends, starts
  std::size_t closes_ = 0;               ///< index of the first section end
  State state_ = State::kContent;
  bool used_ = false;  ///< the section held a call
  std::string name_;
  bool first_ = true;  ///< no parameter yet
  std::string key_;
  std::optional<bool> string_;  ///< the string attribute
  ValueTypes types_;
  bool streams_ = false;  ///< the value is a string that goes out as it comes
  bool value_begins_ = false;
  std::string newline_;  ///< held back: the value's last, if it ends there
  std::string value_;
};

}  // namespace

std::unique_ptr<Stage> make_tagged_call_stage(TaggedCallFormat format, OrderedJson tools) {
  return std::make_unique<TaggedCallStage>(std::move(format), std::move(tools));
}

}  // namespace sabrewing::text::chat
