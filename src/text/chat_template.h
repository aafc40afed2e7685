#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "text/chat/prompt.h"
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

/// The system's local time.
LocalTime local_time();

/// The chat templates and special tokens of a model folder.
class ModelChatTemplates {
 public:
  /// Reads `chat_template.jinja` and `additional_chat_templates/*.jinja`, which win, or the `chat_template`
  /// of `tokenizer_config.json` (a string, or a list of name and template); the special tokens come from
  /// `tokenizer_config.json` (and `special_tokens_map.json` where that does not list its added tokens).
  /// Absent files are no error; malformed ones are `Error{kCorrupt}`. Every template is parsed here; one that
  /// cannot be is an error when it is chosen.
  static ModelChatTemplates load(const std::filesystem::path& folder);

  /// Puts a renderer of this library ("harmony", "deepseek_v4") in the place of all templates.
  void use_builtin(std::string_view name);
  /// Puts the template in `file` in the place of all templates. Errors name the file.
  void use_file(const std::filesystem::path& file);
  /// The names that `use_builtin` takes, and the one for a config.json's `model_type` ("" when there is
  /// none).
  static std::vector<std::string> builtin_names();
  static std::string builtin_for(std::string_view model_type);

  /// The `model_type` whose format the built-in renderer writes; "" for templates.
  std::string builtin_model_type() const;

  bool empty() const { return templates_.empty() && builtin_ == Builtin::kNone; }
  /// What renders: a file, or the name of a built-in renderer.
  const std::string& origin() const { return origin_; }
  std::vector<std::string> names() const;
  /// The text of the template of that name; empty when there is none.
  std::string source(const std::string& name) const;
  /// bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token: those that exist.
  const OrderedJson& special_tokens() const { return special_tokens_; }

  /// The template of that name; without a name "tool_use" where it exists and there are tools, else
  /// "default". Throws `Error{kNotFound}`.
  const ChatTemplate& select(const std::optional<std::string>& name, bool has_tools) const;

  /// As transformers' `apply_chat_template`: null members of messages are dropped, the names of reasoning
  /// text are aliased, special tokens become variables below the request's own.
  std::string render(const ChatRequest& request, const RenderOptions& options = {}) const;
  /// The same in parts for the tokenizer, so that added tokens spelled in messages stay text. Only there the
  /// ids differ from those of the whole text. A token that the template looks for in messages is left to it.
  std::vector<PromptPart> render_parts(const ChatRequest& request, const Tokenizer& tokenizer,
                                       const RenderOptions& options = {}) const;

 private:
  std::string render_template(const ChatRequest& request, const RenderOptions& options) const;

  enum class Builtin { kNone, kHarmony, kDeepseekV4 };

  struct Named {
    std::string origin;  ///< file, for errors
    std::string source;
    std::optional<ChatTemplate> parsed;
    std::optional<Error> error;  ///< why it is not
  };

  void add(const std::string& name, const std::string& origin, std::string source);
  const Named& find(const std::optional<std::string>& name, bool has_tools) const;

  std::string origin_;
  std::map<std::string, Named> templates_;
  OrderedJson special_tokens_ = OrderedJson::object();
  Builtin builtin_ = Builtin::kNone;
};

/// The variables that `ModelChatTemplates::render` gives to a template.
OrderedJson chat_context(const ChatRequest& request, const OrderedJson& special_tokens);

}  // namespace sabrewing::text
