#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/jinja_limits.h"

namespace sabrewing::text {

namespace jinja {
struct Template;
}

struct RenderOptions {
  TemplateLimits limits;
  std::optional<LocalTime> now;  ///< what `strftime_now` shows; the system's local time when absent
};

/// A Jinja2 template with the dialect of transformers' chat template renderer: its filters, tests, globals
/// and sandbox, `trim_blocks` and `lstrip_blocks`, loop controls and the generation tag. Values behave as
/// the Python objects do. Immutable: may be rendered by several threads at once.
class ChatTemplate {
 public:
  /// `source` is UTF-8. Throws `Error{kCorrupt}` for malformed templates, `Error{kUnsupported}` for tags,
  /// filters and tests that are left out; messages read "[chat template] line N: ...".
  explicit ChatTemplate(std::string_view source);

  /// Renders with the members of the object `context` as variables. Throws `Error{kInvalidArgument}` where
  /// the template fails, calls `raise_exception` (with its message) or passes a limit, and
  /// `Error{kUnsupported}` where it needs what is left out (integers past 127 bits, bytes, ...).
  std::string render(const OrderedJson& context, const RenderOptions& options = {}) const;

 private:
  std::shared_ptr<const jinja::Template> parsed_;
};

/// One conversation to be rendered.
struct ChatRequest {
  OrderedJson messages = OrderedJson::array();
  OrderedJson tools;      ///< list of JSON schemas, or null
  OrderedJson documents;  ///< list of objects, or null
  bool add_generation_prompt = false;
  OrderedJson kwargs = OrderedJson::object();  ///< further variables: enable_thinking, reasoning_effort, ...
  std::optional<std::string> template_name;    ///< one of `ModelChatTemplates::names`; chosen when absent
};

/// The chat templates and special tokens of a model folder.
class ModelChatTemplates {
 public:
  /// Reads `chat_template.jinja` and `additional_chat_templates/*.jinja`, which win, or the `chat_template`
  /// of `tokenizer_config.json` (a string, or a list of name and template); the special tokens come from
  /// `tokenizer_config.json` (and `special_tokens_map.json` where that does not list its added tokens).
  /// Absent files are no error; malformed ones are `Error{kCorrupt}`. Templates are parsed when first chosen.
  static ModelChatTemplates load(const std::filesystem::path& folder);

  bool empty() const { return sources_.empty(); }
  std::vector<std::string> names() const;
  /// The text of the template of that name; empty when there is none.
  std::string source(const std::string& name) const;
  /// bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token: those that exist.
  const OrderedJson& special_tokens() const { return special_tokens_; }

  /// The template of that name; without a name "tool_use" where it exists and there are tools, else
  /// "default". Throws `Error{kNotFound}`.
  ChatTemplate select(const std::optional<std::string>& name, bool has_tools) const;

  /// As transformers' `apply_chat_template`: null members of messages are dropped, the names of reasoning
  /// text are aliased, special tokens become variables below the request's own.
  std::string render(const ChatRequest& request, const RenderOptions& options = {}) const;

 private:
  std::string origin_;
  std::map<std::string, std::string> sources_;
  OrderedJson special_tokens_ = OrderedJson::object();
};

/// The variables that `ModelChatTemplates::render` gives to a template.
OrderedJson chat_context(const ChatRequest& request, const OrderedJson& special_tokens);

}  // namespace sabrewing::text
