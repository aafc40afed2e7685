#include "server/answer_grammar.h"

#include <fmt/core.h>

#include <utility>

#include "server/errors.h"

namespace sabrewing::server {
namespace {

using Spec = text::GrammarSpec;
using ChoiceKind = ToolChoice::Kind;

// Elements of xgrammar's structural tags.

OrderedJson constant(std::string_view text) { return {{"type", "const_string"}, {"value", text}}; }
OrderedJson schema(const OrderedJson& json) { return {{"type", "json_schema"}, {"json_schema", json}}; }
OrderedJson sequence(OrderedJson elements) {
  return {{"type", "sequence"}, {"elements", std::move(elements)}};
}
OrderedJson star(OrderedJson content) { return {{"type", "star"}, {"content", std::move(content)}}; }
OrderedJson any_of(OrderedJson elements) {
  if (elements.size() == 1) return elements[0];
  return {{"type", "or"}, {"elements", std::move(elements)}};
}

/// The token of that text, or its spelling where the vocabulary has none.
OrderedJson marker(const Service& service, std::string_view text) {
  const auto id = service.tokenizer("tool_choice").token_id(text);
  return id ? OrderedJson({{"type", "token"}, {"token", *id}}) : constant(text);
}

/// The tools that may be called, each {"name", "parameters", "strict"}.
std::vector<OrderedJson> callable(const ToolChoice& choice) {
  std::vector<OrderedJson> functions;
  for (const OrderedJson& tool : choice.tools) {
    const OrderedJson& function = tool.at("function");
    if (choice.kind == ChoiceKind::kNamed && function.at("name") != choice.name) continue;
    functions.push_back(function);
  }
  return functions;
}

OrderedJson parameters(const OrderedJson& function) {
  const auto found = function.find("parameters");
  if (found == function.end() || found->is_null() || found->empty()) return {{"type", "object"}};
  return *found;
}

/// {"name": ..., KEY: {...}} of any of the functions.
OrderedJson json_call(const std::vector<OrderedJson>& functions, const char* key) {
  OrderedJson calls = OrderedJson::array();
  for (const OrderedJson& function : functions)
    calls.push_back(
        sequence({constant(fmt::format("{{\"name\": {}, \"{}\": ", dump(function.at("name")), key)),
                  schema(parameters(function)), constant("}")}));
  return any_of(std::move(calls));
}

/// One call, or with parallel calls any number of them.
OrderedJson repeated(OrderedJson call, std::string_view separator, bool parallel) {
  if (!parallel) return call;
  OrderedJson more = separator.empty() ? call : sequence({constant(separator), call});
  return sequence({std::move(call), star(std::move(more))});
}

OrderedJson hermes_calls(const Service& service, const std::vector<OrderedJson>& functions, bool parallel) {
  return repeated(sequence({marker(service, "<tool_call>"), constant("\n"), json_call(functions, "arguments"),
                            constant("\n"), marker(service, "</tool_call>")}),
                  "\n", parallel);
}

OrderedJson coder_calls(const Service& service, const std::vector<OrderedJson>& functions, bool parallel) {
  OrderedJson calls = OrderedJson::array();
  for (const OrderedJson& function : functions) {
    OrderedJson arguments = schema(parameters(function));
    arguments["style"] = "qwen_xml";
    calls.push_back(sequence({constant("<function=" + function.at("name").get<std::string>() + ">\n"),
                              std::move(arguments), constant("\n</function>")}));
  }
  return repeated(sequence({marker(service, "<tool_call>"), constant("\n"), any_of(std::move(calls)),
                            constant("\n"), marker(service, "</tool_call>")}),
                  "\n", parallel);
}

OrderedJson mistral_calls(const Service& service, const std::vector<OrderedJson>& functions, bool parallel) {
  return sequence({marker(service, "[TOOL_CALLS]"), constant("["),
                   repeated(json_call(functions, "arguments"), ", ", parallel), constant("]")});
}

/// The calls in the markup that the tool parser reads; null where that is not known.
OrderedJson forced_calls(const Service& service, const ToolChoice& choice) {
  const std::string& parser = service.options().tool_parser;
  const std::vector<OrderedJson> functions = callable(choice);
  const bool parallel = choice.parallel_calls && choice.kind != ChoiceKind::kNamed;
  if (parser == "hermes" || parser == "qwen3_json") return hermes_calls(service, functions, parallel);
  if (parser == "qwen3_coder" || parser == "qwen3_xml") return coder_calls(service, functions, parallel);
  if (parser == "mistral") return mistral_calls(service, functions, parallel);
  if (parser == "llama3_json" || parser == "llama4_json") return json_call(functions, "parameters");
  return nullptr;
}

/// JSON that a request has as text.
OrderedJson parse(const std::string& text, const char* what) {
  try {
    return parse_ordered_json(text, what);
  } catch (const Error& error) {
    throw Error(ErrorCode::kInvalidArgument, error.what());
  }
}

/// The content as an element of a tag.
OrderedJson content(const Spec& spec) {
  switch (spec.kind) {
    case Spec::Kind::kJsonObject:
      return schema({{"type", "object"}});
    case Spec::Kind::kJsonSchema:
      return schema(parse(spec.text, "the JSON schema"));
    case Spec::Kind::kRegex:
      return {{"type", "regex"}, {"pattern", spec.text}};
    case Spec::Kind::kEbnf:
      return {{"type", "grammar"}, {"grammar", spec.text}};
    case Spec::Kind::kStructuralTag:
      return parse(spec.text, "the structural tag").at("format");
    case Spec::Kind::kChoice:
      break;
  }
  if (spec.choices.empty()) throw Error(ErrorCode::kInvalidArgument, "[grammar] a choice among nothing");
  OrderedJson choices = OrderedJson::array();
  for (const std::string& choice : spec.choices) choices.push_back(constant(choice));
  return any_of(std::move(choices));
}

Spec tag(OrderedJson format) {
  Spec spec;
  spec.kind = Spec::Kind::kStructuralTag;
  spec.text = dump({{"type", "structural_tag"}, {"format", std::move(format)}});
  return spec;
}

/// Harmony: an analysis and a preamble where the model wants them, then the final message or a call.
OrderedJson harmony(const Service& service, const ToolChoice& choice,
                    const std::optional<ContentFormat>& format) {
  const auto token = [&](const char* text) { return marker(service, text); };
  const auto aside = [&](const char* channel) -> OrderedJson {
    return {{"type", "optional"},
            {"content", sequence({token("<|channel|>"),
                                  constant(channel),
                                  token("<|message|>"),
                                  {{"type", "any_tokens"},
                                   {"exclude_tokens",
                                    {"<|end|>", "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>",
                                     "<|call|>", "<|return|>"}}},
                                  token("<|end|>"),
                                  token("<|start|>"),
                                  constant("assistant")})}};
  };
  OrderedJson endings = OrderedJson::array();
  if (choice.kind != ChoiceKind::kNone) {
    OrderedJson calls = OrderedJson::array();
    for (const OrderedJson& function : callable(choice))
      calls.push_back(
          sequence({constant(function.at("name").get<std::string>() + " "), token("<|constrain|>"),
                    constant("json"), token("<|message|>"), schema(parameters(function))}));
    endings.push_back(
        sequence({token("<|channel|>"), constant("commentary to=functions."), any_of(std::move(calls))}));
  }
  if (choice.kind == ChoiceKind::kNone || choice.kind == ChoiceKind::kAuto)
    endings.push_back(
        sequence({token("<|channel|>"), constant("final"), token("<|message|>"), content(format->spec)}));
  return sequence({aside("analysis"), aside("commentary"), any_of(std::move(endings))});
}

/// What ends the reasoning, unless the prompt has ended it already.
std::vector<std::int32_t> reasoning_end(const Service& service, std::string_view prompt) {
  const std::string& parser = service.options().reasoning_parser;
  if (parser.empty()) return {};
  const std::string_view end = parser.starts_with("kimi") ? "◁/think▷" : "</think>";
  const std::size_t last = prompt.find_last_not_of(" \n\r\t");
  if (last != std::string_view::npos && prompt.substr(0, last + 1).ends_with(end)) return {};
  const text::Tokenizer& tokenizer = service.tokenizer("response_format");
  if (const auto id = tokenizer.token_id(end)) return {*id};
  return tokenizer.encode(end);
}

bool is_harmony(const std::string& parser) {
  return parser == "gptoss" || parser == "openai" || parser == "openai_gptoss";
}

}  // namespace

std::optional<AnswerGrammar> answer_grammar(const Service& service, const ToolChoice& tool_choice,
                                            const std::optional<ContentFormat>& format,
                                            const std::string* chat_prompt) {
  const bool forced = tool_choice.kind == ChoiceKind::kRequired || tool_choice.kind == ChoiceKind::kNamed;
  if (!forced && !format) return std::nullopt;
  const ServiceOptions& options = service.options();
  AnswerGrammar grammar;
  if (chat_prompt == nullptr) {
    grammar.spec = format->spec;
    return grammar;
  }
  if (is_harmony(options.tool_parser) || is_harmony(options.reasoning_parser)) {
    grammar.spec = tag(harmony(service, tool_choice, format));
  } else {
    grammar.marker = reasoning_end(service, *chat_prompt);
    OrderedJson calls =
        tool_choice.kind == ChoiceKind::kNone ? OrderedJson() : forced_calls(service, tool_choice);
    if (forced && calls.is_null())
      throw ApiError(
          400,
          fmt::format("tool_choice: calls in the format of the tool parser {} cannot be forced; use \"auto\"",
                      options.tool_parser),
          "tool_choice", "unsupported");
    if (forced)
      grammar.spec = tag(std::move(calls));
    else if (!calls.is_null())
      grammar.spec = tag(any_of({std::move(calls), content(format->spec)}));
    else
      grammar.spec = format->spec;
  }
  // A tool's schema is a wish unless it is strict.
  if (forced || tool_choice.kind == ChoiceKind::kAuto) {
    bool strict = format && !format->spec.lenient;
    for (const OrderedJson& function : callable(tool_choice))
      strict = strict || function.value("strict", false);
    grammar.spec.lenient = !strict;
  }
  return grammar;
}

}  // namespace sabrewing::server
