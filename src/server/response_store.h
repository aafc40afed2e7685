#pragma once

#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "core/json.h"

namespace sabrewing::server {

/// Responses that clients asked to keep, in memory; the oldest give way. Threads may share it.
class ResponseStore {
 public:
  struct Entry {
    std::string response;  ///< the response object as JSON
    std::string messages;  ///< the conversation up to and with this answer, as chat messages in JSON
    std::string api_key;   ///< of its client, the only one that it is shown to; empty without keys
  };

  explicit ResponseStore(std::size_t bytes = std::size_t{64} << 20) : bytes_(bytes) {}

  void put(const std::string& id, Entry entry);
  std::optional<Entry> get(const std::string& id) const;
  bool erase(const std::string& id);

 private:
  using List = std::list<std::pair<std::string, Entry>>;
  static std::size_t size_of(const List::value_type& item);

  std::size_t bytes_;
  mutable std::mutex mutex_;
  List entries_;  ///< the newest first
  std::unordered_map<std::string, List::iterator> places_;
  std::size_t held_ = 0;
};

}  // namespace sabrewing::server
