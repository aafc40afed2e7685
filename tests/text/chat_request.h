#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"
#include "core/json.h"
#include "text/chat_template.h"

namespace sabrewing::text {

/// `json` as the goldens of tests/data spell a request; `add_generation_prompt` where it does not say.
inline ChatRequest read_request(const OrderedJson& json, bool add_generation_prompt = true) {
  ChatRequest request;
  request.messages = json.at("messages");
  if (json.contains("tools")) request.tools = json["tools"];
  if (json.contains("documents")) request.documents = json["documents"];
  request.kwargs = json.value("kwargs", OrderedJson::object());
  request.add_generation_prompt = json.value("add_generation_prompt", add_generation_prompt);
  return request;
}

inline ChatRequest conversation(const OrderedJson& messages) {
  ChatRequest request;
  request.messages = messages;
  request.add_generation_prompt = true;
  return request;
}

inline ChatRequest question() {
  return conversation(OrderedJson::array({{{"role", "user"}, {"content", "Hi"}}}));
}

/// The message of the error, which has this code, that rendering the request ends with; empty without one.
template <typename Render>
std::string error_of(const Render& render, const ChatRequest& request, ErrorCode code) {
  try {
    render(request);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "";
}

}  // namespace sabrewing::text
