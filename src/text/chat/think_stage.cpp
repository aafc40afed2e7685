#include <algorithm>

#include "text/chat/stage.h"

namespace sabrewing::text::chat {
namespace {

class ThinkStage final : public Stage {
 public:
  ThinkStage(std::vector<ThinkMarkers> markers, Thinking start, std::vector<std::string> implicit_ends)
      : start_(start) {
    for (ThinkMarkers& pair : markers) {
      opens_.push_back(std::move(pair.open));
      ends_.push_back(std::move(pair.close));
    }
    closes_ = ends_.size();
    ends_.insert(ends_.end(), implicit_ends.begin(), implicit_ends.end());
  }

  bool step(Tape& tape, Answer& answer) override {
    return inside_ ? read(tape, answer) : begin(tape, answer);
  }

  bool over() const override { return over_; }

  bool is_markup(std::string_view token) const override {
    return std::find(opens_.begin(), opens_.end(), token) != opens_.end() ||
           std::find(ends_.begin(), ends_.end(), token) != ends_.end();
  }

 private:
  /// White space and the marker that opens the reasoning, or closes what the prompt has closed already.
  bool begin(Tape& tape, Answer& answer) {
    space_ += tape.take(leading_space(tape.rest()));
    if (tape.empty() && !tape.ended()) return false;
    bool undecided = false;
    const auto starts = [&](const std::vector<std::string>& markers, std::size_t count) {
      for (std::size_t m = 0; m < count; ++m) {
        const Tape::Match match = tape.match(markers[m]);
        if (match == Tape::Match::kYes) {
          tape.take(markers[m].size());
          return true;
        }
        undecided = undecided || match == Tape::Match::kMore;
      }
      return false;
    };
    if (start_ != Thinking::kClosed && starts(opens_, opens_.size())) {
      inside_ = true;
      return true;
    }
    if (start_ != Thinking::kOpen && starts(ends_, closes_)) return finish(answer);
    if (undecided) return false;
    if (start_ == Thinking::kOpen) {
      answer.reasoning(space_);
      inside_ = true;
      return true;
    }
    if (start_ == Thinking::kClosed) return finish_with(answer, space_);
    answer.content(space_);
    over_ = true;
    return true;
  }

  bool read(Tape& tape, Answer& answer) {
    const Tape::Found found = tape.find(ends_);
    answer.reasoning(tape.take(found.before));
    if (!found.marker) return false;
    if (*found.marker < closes_) tape.take(ends_[*found.marker].size());
    return finish(answer);
  }

  bool finish(Answer& answer) {
    answer.end_reasoning();
    over_ = true;
    return true;
  }

  bool finish_with(Answer& answer, std::string_view space) {
    finish(answer);
    answer.content(space);
    return true;
  }

  std::vector<std::string> opens_;
  std::vector<std::string> ends_;  ///< closing markers, then implicit ends
  std::size_t closes_ = 0;
  Thinking start_;
  std::string space_;
  bool inside_ = false;
  bool over_ = false;
};

}  // namespace

std::unique_ptr<Stage> make_think_stage(std::vector<ThinkMarkers> markers, Thinking start,
                                        std::vector<std::string> implicit_ends) {
  return std::make_unique<ThinkStage>(std::move(markers), start, std::move(implicit_ends));
}

}  // namespace sabrewing::text::chat
