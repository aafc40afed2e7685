#include "text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "core/error.h"
#include "core/mapped_file.h"
#include "text/chat/deepseek_v4.h"
#include "text/chat/guard.h"
#include "text/chat/harmony.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_parser.h"
#include "text/utf8.h"

namespace sabrewing::text {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxTemplateBytes = 4u << 20;
constexpr std::size_t kMaxConfigBytes = 64u << 20;

constexpr const char* kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};

constexpr const char* kDefaultName = "default";
constexpr const char* kToolName = "tool_use";
constexpr std::string_view kErrorPrefix = "[chat template] ";

/// The renderers of this library and whose format they write.
constexpr struct {
  const char* name;
  const char* model_type;
} kBuiltins[] = {{"deepseek_v4", "deepseek_v4"}, {"harmony", "gpt_oss"}};

/// Names under which a message carries its reasoning; templates read the first.
constexpr const char* kReasoningNames[] = {"reasoning_content", "thinking", "reasoning"};

/// A message as templates see it.
OrderedJson normalized_message(const OrderedJson& message, std::size_t index) {
  SABREWING_CHECK(message.is_object(), kInvalidArgument, "[chat template] message {} is not an object",
                  index);
  OrderedJson kept = OrderedJson::object();
  for (const auto& [key, value] : message.items()) {
    if (!value.is_null()) kept[key] = value;
  }
  for (const char* name : kReasoningNames) {
    if (!kept.contains(name)) continue;
    const OrderedJson reasoning = kept[name];
    OrderedJson aliased = OrderedJson::object();
    aliased["thinking"] = reasoning;
    for (const auto& [key, value] : kept.items()) aliased[key] = value;
    aliased["reasoning_content"] = reasoning;
    return aliased;
  }
  return kept;
}

/// A special token is a string or an object with its content.
void add_special_tokens(const OrderedJson& config, const std::string& origin, OrderedJson& out) {
  for (const char* name : kSpecialTokens) {
    if (!config.contains(name) || config[name].is_null()) continue;
    const OrderedJson& token = config[name];
    if (token.is_string()) {
      out[name] = token;
    } else if (token.is_object() && token.contains("content") && token["content"].is_string()) {
      out[name] = token["content"];
    } else {
      fail(ErrorCode::kCorrupt, "[chat template] {}: {} is neither a string nor an object with content",
           origin, name);
    }
  }
}

/// Name and source of the templates in a tokenizer_config.json.
std::vector<std::pair<std::string, std::string>> config_templates(const OrderedJson& config,
                                                                  const std::string& origin) {
  std::vector<std::pair<std::string, std::string>> out;
  if (!config.contains("chat_template") || config["chat_template"].is_null()) return out;
  const OrderedJson& templates = config["chat_template"];
  if (templates.is_string()) {
    out.emplace_back(kDefaultName, templates.get<std::string>());
    return out;
  }
  SABREWING_CHECK(templates.is_array(), kCorrupt,
                  "[chat template] {}: chat_template is neither a string nor a list", origin);
  for (const OrderedJson& entry : templates) {
    const bool complete = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                          entry.contains("template") && entry["template"].is_string();
    SABREWING_CHECK(complete, kCorrupt,
                    "[chat template] {}: an entry of chat_template lacks a name or a template", origin);
    out.emplace_back(entry["name"].get<std::string>(), entry["template"].get<std::string>());
  }
  return out;
}

/// The same error, naming the template's file.
Error located(const Error& error, const std::string& origin) {
  std::string_view message = error.what();
  if (message.starts_with(kErrorPrefix)) message.remove_prefix(kErrorPrefix.size());
  return {error.code(), fmt::format("{}{}: {}", kErrorPrefix, origin, message)};
}

std::optional<OrderedJson> read_config(const fs::path& path) {
  if (!fs::exists(path)) return std::nullopt;
  OrderedJson config = parse_ordered_json(read_text_file(path, kMaxConfigBytes), path.string());
  SABREWING_CHECK(config.is_object(), kCorrupt, "[chat template] {}: not an object", path.string());
  return config;
}

}  // namespace

LocalTime local_time() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  const auto micros =
      std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count() % 1000000;
  return {parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,           parts.tm_hour,
          parts.tm_min,         parts.tm_sec,     static_cast<int>(micros)};
}

ChatTemplate::ChatTemplate(std::string_view source) {
  SABREWING_CHECK(source.size() <= kMaxTemplateBytes, kCorrupt, "[chat template] larger than {} bytes: {}",
                  kMaxTemplateBytes, source.size());
  if (const auto invalid = find_invalid_utf8(source)) {
    fail(ErrorCode::kCorrupt, "[chat template] not UTF-8 at byte {}", *invalid);
  }
  parsed_ = std::make_shared<const jinja::Template>(jinja::parse(source));
}

std::string ChatTemplate::render(const OrderedJson& context, const RenderOptions& options) const {
  SABREWING_CHECK(context.is_object(), kInvalidArgument, "[chat template] the context is not an object");
  jinja::Runtime runtime(options.limits, options.now ? *options.now : local_time());
  const jinja::Value variables = jinja::from_json(runtime, context);
  return jinja::Interpreter(*parsed_, variables.as<jinja::Dict>(), runtime).run();
}

void ModelChatTemplates::add(const std::string& name, const std::string& origin, std::string source) {
  Named& entry = templates_[name];
  entry = {origin, std::move(source), std::nullopt, std::nullopt};
  try {
    entry.parsed.emplace(entry.source);
  } catch (const Error& error) {
    entry.error = located(error, origin);
  }
}

ModelChatTemplates ModelChatTemplates::load(const fs::path& folder) {
  ModelChatTemplates out;
  out.origin_ = folder.string();
  const fs::path config_path = folder / "tokenizer_config.json";
  const std::optional<OrderedJson> config = read_config(config_path);

  if (const fs::path file = folder / "chat_template.jinja"; fs::exists(file)) {
    out.add(kDefaultName, file.string(), read_text_file(file, kMaxTemplateBytes));
  }
  if (const fs::path more = folder / "additional_chat_templates"; fs::is_directory(more)) {
    for (const auto& entry : fs::directory_iterator(more)) {
      const fs::path& file = entry.path();
      if (file.extension() != ".jinja") continue;
      out.add(file.stem().string(), file.string(), read_text_file(file, kMaxTemplateBytes));
    }
  }
  if (out.templates_.empty() && config) {
    for (auto& [name, source] : config_templates(*config, config_path.string()))
      out.add(name, config_path.string(), std::move(source));
  }

  if (config) add_special_tokens(*config, config_path.string(), out.special_tokens_);
  if (!config || !config->contains("added_tokens_decoder")) {
    const fs::path map_path = folder / "special_tokens_map.json";
    if (const auto map = read_config(map_path))
      add_special_tokens(*map, map_path.string(), out.special_tokens_);
  }
  return out;
}

std::vector<std::string> ModelChatTemplates::builtin_names() {
  std::vector<std::string> names;
  for (const auto& builtin : kBuiltins) names.emplace_back(builtin.name);
  return names;
}

std::string ModelChatTemplates::builtin_for(std::string_view model_type) {
  for (const auto& builtin : kBuiltins)
    if (model_type == builtin.model_type) return builtin.name;
  return {};
}

std::string ModelChatTemplates::builtin_model_type() const {
  for (const auto& builtin : kBuiltins)
    if (builtin_ != Builtin::kNone && origin_ == builtin.name) return builtin.model_type;
  return {};
}

void ModelChatTemplates::use_builtin(std::string_view name) {
  if (name == "harmony")
    builtin_ = Builtin::kHarmony;
  else if (name == "deepseek_v4")
    builtin_ = Builtin::kDeepseekV4;
  else
    fail(ErrorCode::kInvalidArgument, "[chat template] no built-in renderer \"{}\", expected one of: {}",
         name, fmt::join(builtin_names(), ", "));
  origin_ = name;
  templates_.clear();
}

void ModelChatTemplates::use_file(const fs::path& file) {
  std::string source = read_text_file(file, kMaxTemplateBytes);
  builtin_ = Builtin::kNone;
  origin_ = file.string();
  templates_.clear();
  add(kDefaultName, origin_, std::move(source));
  select(std::nullopt, false);
}

std::vector<std::string> ModelChatTemplates::names() const {
  std::vector<std::string> out;
  for (const auto& entry : templates_) out.push_back(entry.first);
  return out;
}

std::string ModelChatTemplates::source(const std::string& name) const {
  const auto found = templates_.find(name);
  return found == templates_.end() ? std::string() : found->second.source;
}

const ModelChatTemplates::Named& ModelChatTemplates::find(const std::optional<std::string>& name,
                                                          bool has_tools) const {
  SABREWING_CHECK(!templates_.empty(), kNotFound, "[chat template] {}: the model has no chat template",
                  origin_);
  const std::string chosen = name                                            ? *name
                             : has_tools && templates_.count(kToolName) != 0 ? kToolName
                                                                             : kDefaultName;
  const auto found = templates_.find(chosen);
  if (found == templates_.end()) {
    fail(ErrorCode::kNotFound, "[chat template] {}: no template named '{}'; there are: {}", origin_, chosen,
         fmt::join(names(), ", "));
  }
  if (found->second.error) throw Error(*found->second.error);
  return found->second;
}

const ChatTemplate& ModelChatTemplates::select(const std::optional<std::string>& name, bool has_tools) const {
  return *find(name, has_tools).parsed;
}

std::string ModelChatTemplates::render(const ChatRequest& request, const RenderOptions& options) const {
  if (builtin_ == Builtin::kHarmony) return render_harmony(request, options);
  if (builtin_ == Builtin::kDeepseekV4) return render_deepseek_v4(request);
  return render_template(request, options);
}

std::vector<PromptPart> ModelChatTemplates::render_parts(const ChatRequest& request,
                                                         const Tokenizer& tokenizer,
                                                         const RenderOptions& options) const {
  if (builtin_ == Builtin::kHarmony) return render_harmony_parts(request, options);
  RenderOptions same_time = options;
  if (!same_time.now) same_time.now = local_time();
  return chat::render_guarded(tokenizer, request,
                              [&](const ChatRequest& changed) { return render(changed, same_time); });
}

std::string ModelChatTemplates::render_template(const ChatRequest& request,
                                                const RenderOptions& options) const {
  const Named& chosen = find(request.template_name, !request.tools.is_null());
  try {
    return chosen.parsed->render(chat_context(request, special_tokens_), options);
  } catch (const Error& error) {
    throw located(error, fs::path(chosen.origin).filename().string());
  }
}

OrderedJson chat_context(const ChatRequest& request, const OrderedJson& special_tokens) {
  SABREWING_CHECK(request.messages.is_array() && !request.messages.empty(), kInvalidArgument,
                  "[chat template] messages is not a list with at least one message");
  SABREWING_CHECK(request.kwargs.is_object(), kInvalidArgument, "[chat template] kwargs is not an object");
  for (const auto* list : {&request.tools, &request.documents}) {
    SABREWING_CHECK(list->is_null() || list->is_array(), kInvalidArgument,
                    "[chat template] {} is neither a list nor null",
                    list == &request.tools ? "tools" : "documents");
    const bool objects =
        std::all_of(list->begin(), list->end(), [](const OrderedJson& item) { return item.is_object(); });
    SABREWING_CHECK(objects, kInvalidArgument, "[chat template] {} holds something that is not an object",
                    list == &request.tools ? "tools" : "documents");
  }
  OrderedJson context = special_tokens;
  for (const auto& [key, value] : request.kwargs.items()) context[key] = value;
  OrderedJson messages = OrderedJson::array();
  for (const OrderedJson& message : request.messages)
    messages.push_back(normalized_message(message, messages.size()));
  const std::pair<const char*, OrderedJson> fixed[] = {
      {"messages", std::move(messages)},
      {"tools", request.tools},
      {"documents", request.documents},
      {"add_generation_prompt", request.add_generation_prompt}};
  for (const auto& [name, value] : fixed) {
    SABREWING_CHECK(!request.kwargs.contains(name), kInvalidArgument,
                    "[chat template] kwargs may not hold '{}'", name);
    context[name] = value;
  }
  return context;
}

}  // namespace sabrewing::text
