#include <algorithm>
#include <array>
#include <optional>

#include "text/chat/stage.h"
#include "text/tokenizer.h"

namespace sabrewing::text::chat {
namespace {

constexpr std::size_t kMaxHeader = 1024;
constexpr std::string_view kRecipient = "to=";

enum HarmonyMarker : std::size_t {
  kStart,
  kChannel,
  kMessage,
  kConstrain,
  kEnd,
  kCall,
  kReturn,
  kMarkerCount
};

const std::vector<std::string>& markers() {
  static const std::vector<std::string> list = {"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>",
                                                "<|end|>",   "<|call|>",    "<|return|>"};
  return list;
}

struct Header {
  std::string role = "assistant";
  std::string recipient;
  std::string channel;
};

/// What stands between <|start|> and <|message|>. The recipient may stand beside the role or the channel.
Header parse_header(std::string_view text) {
  Header header;
  text = text.substr(0, text.find(markers()[kConstrain]));
  const std::size_t channel = text.rfind(markers()[kChannel]);
  const auto words = [&](std::string_view part, std::string& first) {
    bool found = false;
    for (part = trimmed(part); !part.empty(); part = trimmed(part)) {
      const auto end =
          static_cast<std::size_t>(std::find_if(part.begin(), part.end(), is_space) - part.begin());
      const std::string_view word = part.substr(0, end);
      part.remove_prefix(end);
      if (word.starts_with(kRecipient)) {
        header.recipient = word.substr(kRecipient.size());
      } else if (!found) {
        first = word;
        found = true;
      }
    }
  };
  words(text.substr(0, text.find(markers()[kChannel])), header.role);
  if (channel != std::string_view::npos)
    words(text.substr(channel + markers()[kChannel].size()), header.channel);
  return header;
}

class HarmonyStage final : public CallStage {
 public:
  HarmonyStage(const Tokenizer* tokenizer, bool parse_tools, std::string_view prompt)
      : parse_tools_(parse_tools) {
    if (tokenizer != nullptr) {
      for (std::size_t m = 0; m < kMarkerCount; ++m) ids_[m] = tokenizer->token_id(markers()[m]);
      by_token_ = std::all_of(ids_.begin(), ids_.end(), [](const auto& id) { return id.has_value(); });
    }
    // A prompt may end within a header or even a message.
    if (const std::size_t start = prompt.rfind(markers()[kStart]); start != std::string_view::npos) {
      header_ = prompt.substr(start + markers()[kStart].size());
      const std::size_t message = header_.find(markers()[kMessage]);
      if (message != std::string::npos) {
        const bool running = header_.find(markers()[kEnd], message) == std::string::npos;
        header_.resize(message);
        if (running)
          begin_body();
        else
          between();
      }
      fresh_ = state_ == State::kHeader && header_.find(markers()[kChannel]) == std::string::npos;
    }
  }

  void note_token(std::int32_t id) override {
    for (std::size_t m = 0; m < kMarkerCount; ++m)
      if (ids_[m] == id) ++tokens_[m];
  }

  bool is_markup(std::string_view token) const override {
    return std::find(markers().begin(), markers().end(), token) != markers().end();
  }

  bool step(Tape& tape, Answer& answer) override {
    if (state_ == State::kBetween || (state_ == State::kHeader && fresh_)) {
      if (!begin(tape, answer)) return false;
    }
    const Tape::Found found = tape.find(markers());
    const bool real = found.marker && (!by_token_ || tokens_[*found.marker] > 0);
    const std::size_t text = found.before + (found.marker && !real ? markers()[*found.marker].size() : 0);
    if (text > 0) {
      read(tape, answer, text);
      return true;
    }
    if (!found.marker) {
      if (tape.ended()) end(answer);
      return false;
    }
    if (by_token_) --tokens_[*found.marker];
    meet(static_cast<HarmonyMarker>(*found.marker), tape, answer);
    return true;
  }

 private:
  enum class State { kHeader, kReasoning, kContent, kCall, kAfterCall, kBetween };

  void between() {
    state_ = State::kBetween;
    header_.clear();
  }

  /// Where a message may begin: its first characters tell whether one does. False: not yet certain.
  bool begin(Tape& tape, Answer& answer) {
    const std::size_t space = leading_space(tape.rest());
    if (state_ == State::kBetween)
      tape.take(space);
    else
      header_ += hold(tape, space);
    if (tape.empty()) return tape.ended();
    bool undecided = false;
    const auto follows = [&](std::string_view start) {
      const Tape::Match match = tape.match(start);
      undecided = undecided || match == Tape::Match::kMore;
      return match == Tape::Match::kYes;
    };
    const bool message = std::any_of(markers().begin(), markers().end(), follows) ||
                         (state_ == State::kHeader && follows(kRecipient));
    if (!message && undecided) return false;
    fresh_ = false;
    if (!message) break_header(answer);
    return true;
  }

  void begin_body() {
    const Header header = parse_header(header_);
    header_.clear();
    fresh_ = false;
    const bool own = header.role == "assistant";
    const bool function = header.recipient.starts_with(kFunctions);
    const bool addressed = !header.recipient.empty() && header.recipient != "assistant" &&
                           header.recipient != "user" && header.recipient != "all";
    if (own && addressed && parse_tools_ && (function || header.channel != "analysis")) {
      name_ = function ? header.recipient.substr(kFunctions.size()) : header.recipient;
      state_ = State::kCall;
      announced_ = false;
      begin_arguments();
      if (!name_.empty() && name_.size() <= kMaxName) return;
    }
    state_ = own && header.channel == "analysis" && !function ? State::kReasoning : State::kContent;
    new_piece_ = true;
  }

  void start_piece(State state) {
    state_ = state;
    new_piece_ = true;
  }

  void say(Answer& answer, std::string_view text) {
    if (text.empty()) return;
    const bool reasoning = state_ == State::kReasoning;
    bool& spoke = reasoning ? reasoned_ : answered_;
    if (new_piece_ && spoke) reasoning ? answer.reasoning("\n") : answer.content("\n");
    new_piece_ = false;
    spoke = true;
    reasoning ? answer.reasoning(text) : answer.content(text);
  }

  /// `count` bytes without markers.
  void read(Tape& tape, Answer& answer, std::size_t count) {
    switch (state_) {
      case State::kHeader:
        header_ += hold(tape, count);
        if (header_.size() > kMaxHeader) break_header(answer);
        return;
      case State::kCall: {
        switch (pump_arguments(tape, answer, announced_ ? nullptr : &name_, {}, count)) {
          case Arguments::kMore:
            // White space before the arguments.
            if (!announced_) hold(tape, count);
            return;
          case Arguments::kDone:
            state_ = State::kAfterCall;
            return;
          case Arguments::kBroken:
            break;
        }
        start_piece(State::kContent);
        say(answer, held_);
        held_.clear();
        return;
      }
      case State::kAfterCall: {
        const std::size_t space = std::min(leading_space(tape.rest()), count);
        tape.take(space);
        if (space < count) start_piece(State::kContent);
        return;
      }
      case State::kBetween:
        start_piece(State::kContent);
        return;
      default:
        say(answer, tape.take(count));
        return;
    }
  }

  /// What was read as a header is content.
  void break_header(Answer& answer) {
    std::string text;
    text.swap(held_);
    header_.clear();
    start_piece(State::kContent);
    say(answer, text);
  }

  void end_message(Answer& answer) {
    if (state_ == State::kCall) end_call(answer, true);
    if (state_ == State::kHeader) break_header(answer);
  }

  /// The message to a function ends; its arguments did not.
  void end_call(Answer& answer, bool complete) {
    if (announced_) return;
    announce(answer, name_, {});
    if (!complete) return;
    answer.arguments("{}");
    answer.end_call();
  }

  void meet(HarmonyMarker marker, Tape& tape, Answer& answer) {
    const std::size_t size = markers()[marker].size();
    const bool header = state_ == State::kHeader;
    switch (marker) {
      case kStart:
        end_message(answer);
        header_.clear();
        hold(tape, size);
        state_ = State::kHeader;
        return;
      case kChannel:
        if (!header) {
          end_message(answer);
          header_.clear();
        }
        header_ += hold(tape, size);
        state_ = State::kHeader;
        return;
      case kConstrain:
        if (header)
          header_ += hold(tape, size);
        else
          tape.take(size);
        return;
      case kMessage:
        tape.take(size);
        if (!header && state_ != State::kBetween) return;
        held_.clear();
        begin_body();
        return;
      default:
        end_message(answer);
        tape.take(size);
        between();
    }
  }

  void end(Answer& answer) {
    if (state_ == State::kHeader && !held_.empty()) break_header(answer);
    if (state_ == State::kCall) {
      end_call(answer, tokens_[kCall] > 0);
      state_ = State::kAfterCall;
    }
  }

  std::array<std::optional<std::int32_t>, kMarkerCount> ids_;
  std::array<std::int64_t, kMarkerCount> tokens_{};  ///< written as tokens, not yet met in the text
  bool by_token_ = false;
  bool parse_tools_;
  State state_ = State::kHeader;
  bool fresh_ = true;  ///< nothing of the answer was read
  std::string header_ = "assistant";
  std::string name_;
  bool new_piece_ = true;  ///< nothing of this message was given out
  bool reasoned_ = false;
  bool answered_ = false;
};

}  // namespace

std::unique_ptr<Stage> make_harmony_stage(const Tokenizer* tokenizer, bool parse_tools,
                                          std::string_view prompt) {
  return std::make_unique<HarmonyStage>(tokenizer, parse_tools, prompt);
}

}  // namespace sabrewing::text::chat
