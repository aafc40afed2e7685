#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace sabrewing::cli {

/// Takes a stream of server-sent events apart, whatever the pieces it arrives in. Comments and fields other
/// than `data` are skipped.
class SseReader {
 public:
  /// `event` gets the data of every event that `piece` completes.
  void push(std::string_view piece, const std::function<void(std::string_view data)>& event);

 private:
  void line(std::string_view text, const std::function<void(std::string_view)>& event);

  std::string pending_;  ///< an unfinished line
  std::string data_;
  bool has_data_ = false;
  bool after_return_ = false;  ///< the last byte was '\r'
};

}  // namespace sabrewing::cli
