#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sabrewing::jit {

/// A shared library opened at run time and kept open for the rest of the process.
class DynamicLibrary {
 public:
  /// Opens the first of `candidates` that loads: a bare file name goes through the system's search, a path
  /// may hold `*` and `?`, whose matches are tried from the highest name down. Throws `Error{kNotFound}`
  /// "[open] what: tried a (reason), b (reason), ...; advice" when none does.
  static DynamicLibrary open(std::string_view what, const std::vector<std::string>& candidates,
                             std::string_view advice);

  /// The file that was opened, as the system resolved it.
  const std::string& path() const { return path_; }

  /// The address of `symbol`; null when the library lacks it.
  void* find(const char* symbol) const;

  /// Stores the address of `symbol` in `function`. Throws `Error{kUnsupported}` naming library and symbol.
  template <typename Function>
  void load(const char* symbol, Function*& function) const {
    function = reinterpret_cast<Function*>(require(symbol));
  }

 private:
  void* require(const char* symbol) const;

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace sabrewing::jit
