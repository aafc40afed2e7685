#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sabrewing::cli {

/// A one-line bar on standard error; prints nothing unless that is a terminal. Erased when destroyed.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `note` follows the bar.
  void update(std::uint64_t done, std::uint64_t total, const std::string& note);

 private:
  std::string label_;
  bool terminal_;
  int last_permille_ = -1;
};

/// "13.8 GB", "512 kB": decimal units, three digits.
std::string format_bytes(std::size_t bytes);

/// A table with aligned columns: numbers to the right, text to the left. The first row is the header.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace sabrewing::cli
