#include "server/constraints.h"

#include <fmt/core.h>

#include <utility>

#include "server/answer_grammar.h"
#include "server/errors.h"
#include "text/utf8.h"

namespace sabrewing::server {
namespace {

using SpecKind = text::GrammarSpec::Kind;

ContentFormat made(SpecKind kind, std::string text, std::string field) {
  ContentFormat format;
  format.spec.kind = kind;
  format.spec.text = std::move(text);
  format.field = std::move(field);
  return format;
}

/// JSON in the request, or the text of JSON.
std::string json_text(const OrderedJson& value) {
  return value.is_string() ? value.get<std::string>() : dump(value);
}

/// vLLM's older form names tags with "begin", "schema" and "end" beside the triggers.
std::string structural_tag(const OrderedJson& value, const std::string& field) {
  OrderedJson tag = value;
  if (value.is_string()) {
    try {
      tag = parse_ordered_json(value.get<std::string>(), field);
    } catch (const Error& error) {
      throw ApiError(400, error.what(), field);
    }
  }
  if (!tag.is_object()) throw ApiError(400, field + ": an object expected", field);
  if (!tag.contains("structures")) {
    tag["type"] = "structural_tag";
    if (!tag.contains("format")) throw ApiError(400, field + ": \"format\" is missing", field);
    return dump(tag);
  }
  Fields fields(tag, field + ".");
  OrderedJson tags = OrderedJson::array();
  const OrderedJson* structures = fields.array("structures");
  if (structures == nullptr) fields.fail("structures", "is missing");
  for (const OrderedJson& structure : *structures) {
    Fields one(structure, field + ".structures.");
    const OrderedJson* schema = one.find("schema");
    tags.push_back({{"type", "tag"},
                    {"begin", one.string("begin").value_or("")},
                    {"content",
                     {{"type", "json_schema"},
                      {"json_schema", schema == nullptr ? OrderedJson({{"type", "object"}}) : *schema}}},
                    {"end", one.string("end").value_or("")}});
  }
  const OrderedJson* triggers = fields.array("triggers");
  if (triggers == nullptr) fields.fail("triggers", "is missing");
  return dump({{"type", "structural_tag"},
               {"format", {{"type", "triggered_tags"}, {"triggers", *triggers}, {"tags", std::move(tags)}}}});
}

ContentFormat choice(Fields& fields, const char* name, const std::string& field) {
  constexpr std::size_t kMost = 100'000;
  ContentFormat format = made(SpecKind::kChoice, {}, field);
  format.spec.choices =
      fields.strings(name, kMost, std::size_t{1} << 20).value_or(std::vector<std::string>());
  return format;
}

/// At most one of several ways to say it.
class Only {
 public:
  void set(std::optional<ContentFormat> format) {
    if (!format) return;
    if (found_)
      throw ApiError(400, fmt::format("{}: not together with {}", format->field, found_->field),
                     format->field);
    found_ = std::move(format);
  }
  std::optional<ContentFormat> take() { return std::move(found_); }

 private:
  std::optional<ContentFormat> found_;
};

void read_structured_outputs(const OrderedJson& object, Only& only) {
  const std::string path = "structured_outputs";
  Fields fields(object, path + ".");
  if (const OrderedJson* json = fields.find("json"))
    only.set(made(SpecKind::kJsonSchema, json_text(*json), path + ".json"));
  if (fields.boolean("json_object").value_or(false))
    only.set(made(SpecKind::kJsonObject, {}, path + ".json_object"));
  if (auto regex = fields.string("regex"))
    only.set(made(SpecKind::kRegex, std::move(*regex), path + ".regex"));
  if (fields.find("choice") != nullptr) only.set(choice(fields, "choice", path + ".choice"));
  if (auto grammar = fields.string("grammar"))
    only.set(made(SpecKind::kEbnf, std::move(*grammar), path + ".grammar"));
  if (const OrderedJson* tag = fields.find("structural_tag"))
    only.set(made(SpecKind::kStructuralTag, structural_tag(*tag, path + ".structural_tag"),
                  path + ".structural_tag"));
  fields.ignore({"disable_fallback", "disable_any_whitespace", "disable_additional_properties", "backend"});
  for (const std::string& name : fields.unknown()) fields.fail(name, "is not known", "unsupported");
}

}  // namespace

std::optional<ContentFormat> read_format(const OrderedJson& format, const std::string& field) {
  Fields fields(format, field + ".");
  const std::string type = fields.string("type").value_or("");
  if (type == "text") return std::nullopt;
  if (type == "json_object") return made(SpecKind::kJsonObject, {}, field);
  if (type == "json_schema") {
    const OrderedJson* inner = fields.object("json_schema");
    const std::string path = inner != nullptr ? field + ".json_schema." : field + ".";
    Fields named(inner != nullptr ? *inner : format, path);
    const OrderedJson* schema = named.find("schema");
    if (schema == nullptr) named.fail("schema", "is missing");
    named.boolean("strict");
    return made(SpecKind::kJsonSchema, dump(*schema), named.param("schema"));
  }
  if (type == "structural_tag") return made(SpecKind::kStructuralTag, structural_tag(format, field), field);
  fields.fail("type",
              fmt::format("{} is not supported: text, json_object, json_schema or structural_tag expected",
                          text::one_line("\"" + type + "\"")),
              "unsupported");
}

std::optional<ContentFormat> read_content_format(Fields& fields) {
  Only only;
  if (const OrderedJson* format = fields.object("response_format"))
    only.set(read_format(*format, "response_format"));
  if (const OrderedJson* outputs = fields.object("structured_outputs"))
    read_structured_outputs(*outputs, only);
  if (const OrderedJson* json = fields.find("guided_json"))
    only.set(made(SpecKind::kJsonSchema, json_text(*json), "guided_json"));
  if (auto regex = fields.string("guided_regex"))
    only.set(made(SpecKind::kRegex, std::move(*regex), "guided_regex"));
  if (fields.find("guided_choice") != nullptr) only.set(choice(fields, "guided_choice", "guided_choice"));
  if (auto grammar = fields.string("guided_grammar"))
    only.set(made(SpecKind::kEbnf, std::move(*grammar), "guided_grammar"));
  if (const OrderedJson* tag = fields.find("structural_tag"))
    only.set(made(SpecKind::kStructuralTag, structural_tag(*tag, "structural_tag"), "structural_tag"));
  fields.ignore({"guided_decoding_backend", "guided_whitespace_pattern"});
  return only.take();
}

void restrict_answer(const Service& service, const ToolChoice& tool_choice,
                     std::optional<ContentFormat> format, const std::string* chat_prompt,
                     GenerationRequest& request) {
  const std::string field = format ? format->field : "tool_choice";
  try {
    std::optional<AnswerGrammar> wanted = answer_grammar(service, tool_choice, format, chat_prompt);
    if (!wanted) return;
    service.grammars(field.c_str());  // refuses where there is no compiler
    request.restriction = {std::move(wanted->spec), std::move(wanted->marker), field};
  } catch (const Error& error) {
    ApiError refusal = to_api_error(error);
    refusal.param = field;
    throw refusal;
  }
}

}  // namespace sabrewing::server
