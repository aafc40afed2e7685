#include "server/response_store.h"

#include <utility>

namespace sabrewing::server {

std::size_t ResponseStore::size_of(const List::value_type& item) {
  constexpr std::size_t kOverhead = 256;
  return item.first.size() + item.second.response.size() + item.second.messages.size() + kOverhead;
}

void ResponseStore::put(const std::string& id, Entry entry) {
  const std::lock_guard lock(mutex_);
  if (const auto found = places_.find(id); found != places_.end()) {
    held_ -= size_of(*found->second);
    entries_.erase(found->second);
    places_.erase(found);
  }
  entries_.emplace_front(id, std::move(entry));
  places_[id] = entries_.begin();
  held_ += size_of(entries_.front());
  while (held_ > bytes_) {
    held_ -= size_of(entries_.back());
    places_.erase(entries_.back().first);
    entries_.pop_back();
  }
}

std::optional<ResponseStore::Entry> ResponseStore::get(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = places_.find(id);
  if (found == places_.end()) return std::nullopt;
  return found->second->second;
}

bool ResponseStore::erase(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto found = places_.find(id);
  if (found == places_.end()) return false;
  held_ -= size_of(*found->second);
  entries_.erase(found->second);
  places_.erase(found);
  return true;
}

}  // namespace sabrewing::server
