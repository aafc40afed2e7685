#include <algorithm>

#include "text/chat/stage.h"

namespace sabrewing::text::chat {
namespace {

constexpr std::string_view kBlockFence = "```";
constexpr std::string_view kJsonBlockFence = "```json";

class MarkedCallStage final : public CallStage {
 public:
  explicit MarkedCallStage(MarkedCallFormat format)
      : format_(std::move(format)),
        edges_{format_.call_close, format_.section_close, format_.call_open},
        name_ends_{format_.name_close, format_.call_close, format_.section_close},
        line_ends_{"\n", format_.call_close, format_.section_close} {}

  bool step(Tape& tape, Answer& answer) override {
    switch (state_) {
      case State::kContent:
        return content(tape, answer);
      case State::kSection:
        return section(tape, answer);
      case State::kName:
        return name(tape, answer, name_ends_);
      case State::kAfterName:
        return after_name(tape, answer);
      case State::kLine:
        return name(tape, answer, line_ends_);
      case State::kFence:
        return fence(tape, answer);
      case State::kArguments:
        return arguments(tape, answer);
      case State::kClose:
        return close(tape, answer);
      case State::kDrain:
        break;
    }
    return drain(tape, answer);
  }

  std::vector<std::string> openers() const override { return format_.section_open; }
  bool is_markup(std::string_view token) const override {
    return contains(format_.section_open, token) || contains(edges_, token) || contains(name_ends_, token);
  }

 private:
  enum class State { kContent, kSection, kName, kAfterName, kLine, kFence, kArguments, kClose, kDrain };

  bool go(State state) {
    state_ = state;
    return true;
  }

  bool lose(Answer& answer) {
    give_up(answer);
    return go(used_ ? State::kDrain : State::kContent);
  }

  /// At the tape's end what is held will never become a call.
  bool wait(Tape& tape, Answer& answer) {
    if (!tape.ended()) return false;
    hold(tape, tape.rest().size());
    give_up(answer);
    return false;
  }

  bool content(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(format_.section_open);
    answer.content(tape.take(found.before));
    if (!found.marker) return false;
    hold(tape, format_.section_open[*found.marker].size());
    used_ = false;
    return go(State::kSection);
  }

  bool section(Tape& tape, Answer& answer) {
    hold_space(tape);
    if (tape.empty()) return wait(tape, answer);
    const Tape::Match opens = tape.match(format_.call_open);
    const Tape::Match closes = tape.match(format_.section_close);
    if (opens == Tape::Match::kYes) {
      hold(tape, format_.call_open.size());
      announced_ = false;
      name_.clear();
      return go(State::kName);
    }
    if (closes == Tape::Match::kYes) {
      hold(tape, format_.section_close.size());
      if (used_) held_.clear();
      give_up(answer);
      return go(State::kContent);
    }
    if (opens == Tape::Match::kMore || closes == Tape::Match::kMore) return wait(tape, answer);
    return lose(answer);
  }

  /// The first of `ends` has to follow the name.
  bool name(Tape& tape, Answer& answer, const std::vector<std::string>& ends) {
    const Tape::Found found = tape.find(ends);
    const std::string_view text = trimmed(tape.rest().substr(0, found.before));
    if (found.before > kMaxName) return lose(answer);
    if (!found.marker) return wait(tape, answer);
    if (*found.marker != 0) return lose(answer);
    const bool line = state_ == State::kLine;
    if (!line) name_.clear();
    if (line || !format_.fenced) {
      set_name(text);
      if (name_.empty()) return lose(answer);
    } else {
      name_ = text;
    }
    hold(tape, found.before + ends[0].size());
    begin_arguments();
    return go(line ? State::kFence : format_.fenced ? State::kAfterName : State::kArguments);
  }

  void set_name(std::string_view text) {
    id_.clear();
    if (format_.kimi_ids) {
      id_ = text;
      const std::size_t colon = text.rfind(':');
      const bool index = colon != std::string_view::npos && colon + 1 < text.size() &&
                         std::all_of(text.begin() + static_cast<std::ptrdiff_t>(colon) + 1, text.end(),
                                     [](char c) { return c >= '0' && c <= '9'; });
      if (index) text = text.substr(0, colon);
      if (text.starts_with(kFunctions)) text.remove_prefix(kFunctions.size());
    }
    name_ = text;
  }

  /// Either the arguments of the function just named, or its name on a line.
  bool after_name(Tape& tape, Answer& answer) {
    hold_space(tape);
    if (tape.empty()) return wait(tape, answer);
    if (tape.rest().front() != '{') return go(State::kLine);
    return name_.empty() ? lose(answer) : go(State::kArguments);
  }

  bool fence(Tape& tape, Answer& answer) {
    hold_space(tape);
    if (tape.empty()) return wait(tape, answer);
    for (const std::string_view marker : {kJsonBlockFence, kBlockFence}) {
      const Tape::Match match = tape.match(marker);
      if (match == Tape::Match::kMore) return wait(tape, answer);
      if (match == Tape::Match::kNo) continue;
      hold(tape, marker.size());
      break;
    }
    return go(State::kArguments);
  }

  bool arguments(Tape& tape, Answer& answer) {
    if (!announced_) {
      hold_space(tape);
      if (tape.empty()) return wait(tape, answer);
      const Tape::Match none = tape.match(format_.call_close);
      if (none == Tape::Match::kMore) return wait(tape, answer);
      if (none == Tape::Match::kYes) {
        announce(answer, name_, id_);
        answer.arguments("{}");
        answer.end_call();
        used_ = true;
        return go(State::kClose);
      }
    }
    switch (pump_arguments(tape, answer, announced_ ? nullptr : &name_, id_)) {
      case Arguments::kMore:
        return announced_ ? false : wait(tape, answer);
      case Arguments::kDone:
        used_ = true;
        return go(State::kClose);
      case Arguments::kBroken:
        break;
    }
    used_ = used_ || announced_;
    return lose(answer);
  }

  bool close(Tape& tape, Answer& answer) {
    hold_space(tape);
    if (tape.empty()) return wait(tape, answer);
    if (format_.fenced) {
      const Tape::Match match = tape.match(kBlockFence);
      if (match == Tape::Match::kMore) return wait(tape, answer);
      if (match == Tape::Match::kYes) {
        hold(tape, kBlockFence.size());
        return true;
      }
    }
    const Tape::Match match = tape.match(format_.call_close);
    if (match == Tape::Match::kMore) return wait(tape, answer);
    if (match == Tape::Match::kNo) return lose(answer);
    tape.take(format_.call_close.size());
    held_.clear();
    return go(State::kSection);
  }

  /// What is left of a broken call, up to the next marker.
  bool drain(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(edges_);
    answer.content(tape.take(found.before));
    if (!found.marker) return false;
    if (*found.marker < 2) tape.take(edges_[*found.marker].size());
    return go(*found.marker == 1 ? State::kContent : State::kSection);
  }

  MarkedCallFormat format_;
  std::vector<std::string> edges_;
  std::vector<std::string> name_ends_;
  std::vector<std::string> line_ends_;
  State state_ = State::kContent;
  bool used_ = false;  ///< the section held a call
  std::string name_;
  std::string id_;
};

}  // namespace

std::unique_ptr<Stage> make_marked_call_stage(MarkedCallFormat format) {
  return std::make_unique<MarkedCallStage>(std::move(format));
}

}  // namespace sabrewing::text::chat
