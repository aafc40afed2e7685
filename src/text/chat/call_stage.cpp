#include "text/chat/stage.h"

namespace sabrewing::text::chat {

CallStage::Arguments CallStage::pump_arguments(Tape& tape, Answer& answer, const std::string* name,
                                               std::string_view id, std::size_t limit) {
  std::string text;
  Arguments result = Arguments::kMore;
  const std::string_view rest = tape.rest().substr(0, limit);
  std::size_t used = 0;
  if (name != nullptr) {
    used = leading_space(rest);
    if (used == rest.size()) return Arguments::kMore;
    if (rest[used] != '{') return Arguments::kBroken;
    announce(answer, *name, id);
  }
  for (; used < rest.size() && result == Arguments::kMore; ++used) {
    const JsonValue::Step step = value_.put(rest[used], text);
    if (step == JsonValue::Step::kDone) result = Arguments::kDone;
    if (step == JsonValue::Step::kBroken) {
      result = Arguments::kBroken;
      break;
    }
  }
  tape.take(used);
  answer.arguments(text);
  if (result == Arguments::kDone) answer.end_call();
  return result;
}

}  // namespace sabrewing::text::chat
