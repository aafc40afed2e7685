#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "chat_request.h"
#include "core/mapped_file.h"

namespace sabrewing::text {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const fs::path kData = fs::path(SABREWING_SOURCE_DIR) / "tests/data/chat_template";

OrderedJson read_json(const fs::path& path) {
  return parse_ordered_json(read_text_file(path, std::size_t{64} << 20), path.string());
}

RenderOptions fixed_time() {
  RenderOptions options;
  options.now = LocalTime{2025, 3, 7, 14, 5, 9, 123};
  return options;
}

std::string render(std::string_view source, const OrderedJson& context = OrderedJson::object(),
                   const RenderOptions& options = fixed_time()) {
  return ChatTemplate(source).render(context, options);
}

/// The error that rendering ends with.
Error error_of(std::string_view source, const RenderOptions& options = fixed_time()) {
  try {
    const std::string out = render(source, OrderedJson::object(), options);
    ADD_FAILURE() << "no error from " << source.substr(0, 200) << " but " << out.substr(0, 200);
  } catch (const Error& error) {
    return error;
  }
  return {ErrorCode::kInternal, ""};
}

/// A new folder for one test.
fs::path scratch_folder() {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const fs::path folder = fs::path(::testing::TempDir()) / (std::string("chat_template_") + test->name());
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

void write(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

TEST(ChatTemplateGolden, SnippetsEqualTransformers) {
  const OrderedJson goldens = read_json(kData / "snippets.json");
  std::size_t equal = 0;
  std::size_t errors = 0;
  for (const OrderedJson& row : goldens["rows"]) {
    const auto source = row[0].get<std::string>();
    OrderedJson got;
    try {
      got = render(source, goldens["contexts"][row[1].get<std::size_t>()]);
    } catch (const Error& error) {
      ASSERT_NE(error.code(), ErrorCode::kInternal) << error.what();
      EXPECT_THAT(error.what(), HasSubstr("[chat template] line "));
      ++errors;
    }
    EXPECT_EQ(got, row[2]) << source;
    if (got == row[2]) ++equal;
  }
  std::printf("snippets: %zu of %zu equal, %zu of them errors\n", equal, goldens["rows"].size(), errors);
  EXPECT_EQ(equal, goldens["rows"].size());
  EXPECT_GT(goldens["rows"].size(), 5000U);
}

TEST(ChatTemplateGolden, ConversationsEqualTransformers) {
  const OrderedJson conversations = read_json(kData / "conversations.json");
  const OrderedJson goldens = read_json(kData / "templates.json");
  const fs::path folder = scratch_folder();
  write(
      folder / "tokenizer_config.json",
      R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "special": true}, "pad_token": "<pad>", "unk_token": null})");
  std::size_t equal = 0;
  for (const OrderedJson& row : goldens) {
    fs::copy_file(kData / "templates" / row[0].get<std::string>(), folder / "chat_template.jinja",
                  fs::copy_options::overwrite_existing);
    const OrderedJson& conversation = conversations[row[1].get<std::string>()];
    const ChatRequest request = read_request(conversation, false);
    OrderedJson got;
    std::string error_text;
    try {
      got = ModelChatTemplates::load(folder).render(request, fixed_time());
    } catch (const Error& error) {
      error_text = error.what();
    }
    EXPECT_EQ(got, row[2]) << row[0] << ' ' << row[1] << ' ' << error_text;
    if (got == row[2]) ++equal;
  }
  std::printf("conversations: %zu of %zu equal\n", equal, goldens.size());
  EXPECT_EQ(equal, goldens.size());
}

TEST(ChatTemplate, RaisedMessageCarriesLine) {
  const Error error = error_of("a\n{% if true %}\n{{ raise_exception('roles must alternate') }}{% endif %}");
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_STREQ(error.what(), "[chat template] line 3: roles must alternate");
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  EXPECT_STREQ(error_of("\n\n{{ missing.name }}").what(), "[chat template] line 3: 'missing' is undefined");
  EXPECT_THAT(error_of("{# a\n #}\n{% for %}").what(), HasSubstr("line 3: "));
  EXPECT_EQ(error_of("{% for %}").code(), ErrorCode::kCorrupt);
  EXPECT_EQ(error_of("{% if x %}").code(), ErrorCode::kCorrupt);
  EXPECT_EQ(error_of("\xff").code(), ErrorCode::kCorrupt);
}

TEST(ChatTemplate, UnsupportedPartsAreRefusedByName) {
  for (const char* tag :
       {"block x", "extends 'x'", "include 'x'", "import 'x' as y", "from 'x' import y", "autoescape true"}) {
    const Error error = error_of("\n{% " + std::string(tag) + " %}");
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    const std::string name = std::string(tag).substr(0, std::string(tag).find(' '));
    EXPECT_THAT(error.what(), HasSubstr("line 2: tag '" + name + "'"));
  }
  EXPECT_THAT(error_of("{{ 1|urlize }}").what(), HasSubstr("no filter named 'urlize'"));
  EXPECT_THAT(error_of("{{ 1 is shiny }}").what(), HasSubstr("no test named 'shiny'"));
  EXPECT_EQ(error_of("{{ 2 ** 200 }}").code(), ErrorCode::kUnsupported);
  EXPECT_EQ(error_of("{{ (-8) ** 0.5 }}").code(), ErrorCode::kUnsupported);
  EXPECT_EQ(error_of("{{ 'a'.encode() }}").code(), ErrorCode::kUnsupported);
}

TEST(ChatTemplate, LimitsEndRendering) {
  RenderOptions options = fixed_time();
  options.limits.steps = 100000;
  options.limits.output_bytes = 10000;
  options.limits.memory_bytes = 1 << 20;
  EXPECT_THAT(
      error_of("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", options)
          .what(),
      HasSubstr("more than 100000 steps"));
  EXPECT_THAT(error_of("{% for i in range(2000) %}0123456789{% endfor %}", options).what(),
              HasSubstr("bytes of output"));
  for (const char* source :
       {"{{ 'x' * 100000000 }}", "{{ [1] * 100000000 }}", "{{ '%999999999d' % 1 }}",
        "{{ 'x'.center(100000000) }}", "{{ 'a'|indent(100000000) }}", "{{ '{:99999999}'.format(1) }}",
        "{{ '\\t'.expandtabs(100000000) }}", "{{ [1]|batch(99999999, 0)|list }}",
        "{{ [1]|slice(99999999)|list }}", "{{ 'aaaa'.replace('a', 'b' * 500000) }}",
        "{% set n = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = n.l + n.l %}{% endfor %}",
        "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l "
        "}}",
        "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ "
        "n.l|tojson }}",
        "{% set n = namespace(l=[1]) %}{% for i in range(999) %}{% set n.l = [n.l] %}{% endfor %}",
        "{% set n = namespace(l=[1]) %}{% for i in range(999) %}{% set n.l = n.l|map('string') %}{% endfor "
        "%}{{ n.l|list }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"}) {
    EXPECT_EQ(error_of(source, options).code(), ErrorCode::kInvalidArgument) << source;
  }
}

TEST(ChatTemplate, DeepNestingIsAnError) {
  const auto repeat = [](std::string_view text, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += text;
    return out;
  };
  constexpr int kMany = 100000;
  for (const std::string& source :
       {"{{ " + repeat("(", kMany), "{{ " + repeat("[", kMany), "{{ " + repeat("not ", kMany) + "1 }}",
        "{{ " + repeat("-", kMany) + "1 }}", "{{ 1" + repeat("+1", kMany) + " }}",
        "{{ a" + repeat(".b", kMany) + " }}", "{{ a" + repeat("|e", kMany) + " }}",
        "{{ " + repeat("1 if 1 else ", kMany) + "1 }}", repeat("{% if 1 %}", kMany),
        repeat("{% for a in b %}", kMany), "{{ " + repeat("{1:", kMany),
        "{{ a" + repeat("(1)", kMany) + " }}", "{{ " + repeat("a is b ", kMany) + " }}",
        "{% set " + repeat("(", kMany)}) {
    EXPECT_EQ(error_of(source).code(), ErrorCode::kCorrupt) << source.substr(0, 20);
  }
}

TEST(ChatTemplate, SelfReferencesAreReleased) {
  EXPECT_EQ(render("{% set n = namespace(x=1) %}{% set n.n = n %}{% set n.l = [n] %}"
                   "{% macro m(f) %}{% set n.f = m %}{{ caller() }}{% endmacro %}"
                   "{% for i in [1, 2] if i %}{% set n.loop = loop %}{{ loop.changed(loop, n) }}"
                   "{% call m(n) %}{{ i }}{% endcall %}{% endfor %}{{ n.loop.index }}"),
            "True1False22");
}

TEST(ChatTemplate, RendersOnSeveralThreads) {
  const ChatTemplate shared("{% for i in range(200) %}{{ 'ab' ~ i }}{% endfor %}");
  const std::string expected = shared.render(OrderedJson::object());
  std::vector<std::string> results(4);
  std::vector<std::thread> threads;
  for (std::string& result : results) {
    threads.emplace_back([&] { result = shared.render(OrderedJson::object()); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(results, ::testing::Each(expected));
}

TEST(ModelChatTemplates, FileWinsOverConfig) {
  const fs::path folder = scratch_folder();
  write(folder / "tokenizer_config.json", R"({"chat_template": "config", "bos_token": "<s>"})");
  EXPECT_EQ(ModelChatTemplates::load(folder).render(
                {{{{"role", "user"}}}, {}, {}, false, OrderedJson::object(), {}}),
            "config");
  write(folder / "chat_template.jinja", "file {{ bos_token }}");
  EXPECT_EQ(ModelChatTemplates::load(folder).render(
                {{{{"role", "user"}}}, {}, {}, false, OrderedJson::object(), {}}),
            "file <s>");
}

TEST(ModelChatTemplates, NamedTemplates) {
  const fs::path folder = scratch_folder();
  write(
      folder / "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}, {"name": "rag", "template": "r"}]})");
  const ModelChatTemplates templates = ModelChatTemplates::load(folder);
  EXPECT_THAT(templates.names(), ::testing::ElementsAre("default", "rag", "tool_use"));
  EXPECT_EQ(templates.select(std::nullopt, false).render(OrderedJson::object()), "d");
  EXPECT_EQ(templates.select(std::nullopt, true).render(OrderedJson::object()), "t");
  EXPECT_EQ(templates.select("rag", true).render(OrderedJson::object()), "r");
  EXPECT_THROW(templates.select("none", false), Error);
  write(folder / "additional_chat_templates/extra.jinja", "x");
  EXPECT_THAT(ModelChatTemplates::load(folder).names(), ::testing::ElementsAre("extra"));
}

TEST(ModelChatTemplates, BadFoldersAndRequests) {
  const fs::path folder = scratch_folder();
  EXPECT_TRUE(ModelChatTemplates::load(folder).empty());
  EXPECT_THROW(ModelChatTemplates::load(folder).select(std::nullopt, false), Error);
  for (const char* config : {"[]", "{", R"({"chat_template": 5})", R"({"chat_template": [{"name": "x"}]})",
                             R"({"bos_token": 5})"}) {
    write(folder / "tokenizer_config.json", config);
    EXPECT_THROW(ModelChatTemplates::load(folder), Error) << config;
  }
  ChatRequest request;
  EXPECT_THROW(chat_context(request, OrderedJson::object()), Error);
  request.messages = {5};
  EXPECT_THROW(chat_context(request, OrderedJson::object()), Error);
  request.messages = {{{"role", "user"}}};
  request.tools = {"f"};
  EXPECT_THROW(chat_context(request, OrderedJson::object()), Error);
  request.tools = nullptr;
  request.kwargs = {{"messages", 1}};
  EXPECT_THROW(chat_context(request, OrderedJson::object()), Error);
}

}  // namespace
}  // namespace sabrewing::text
