#include "cli/sse_reader.h"

namespace sabrewing::cli {

void SseReader::push(std::string_view piece, const std::function<void(std::string_view)>& event) {
  while (!piece.empty()) {
    if (after_return_ && piece.front() == '\n') {
      after_return_ = false;
      piece.remove_prefix(1);
      continue;
    }
    after_return_ = false;
    const std::size_t end = piece.find_first_of("\r\n");
    if (end == std::string_view::npos) {
      pending_.append(piece);
      return;
    }
    after_return_ = piece[end] == '\r';
    if (pending_.empty()) {
      line(piece.substr(0, end), event);
    } else {
      pending_.append(piece.substr(0, end));
      line(pending_, event);
      pending_.clear();
    }
    piece.remove_prefix(end + 1);
  }
}

void SseReader::line(std::string_view text, const std::function<void(std::string_view)>& event) {
  if (text.empty()) {
    if (has_data_) event(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  const std::size_t colon = text.find(':');
  if (text.substr(0, colon) != "data") return;
  std::string_view value = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_.append(value);
  has_data_ = true;
}

}  // namespace sabrewing::cli
