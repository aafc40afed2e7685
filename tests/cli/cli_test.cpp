// The binary as a person or a script meets it: exit codes, one-line errors, streams.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/json.h"
#include "core/mapped_file.h"

namespace sabrewing {
namespace {

namespace fs = std::filesystem;
const fs::path kModels = fs::path(SABREWING_SOURCE_DIR) / "models";

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

class CliTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "cli_test_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// Runs the binary through a shell; `arguments` may redirect.
  Outcome run(const std::string& arguments, const std::string& before = "") {
    const std::string out = folder_ / "out.txt";
    const std::string err = folder_ / "err.txt";
    const std::string command =
        before + " " SABREWING_BINARY " " + arguments + " >'" + out + "' 2>'" + err + "' </dev/null";
    const int status = std::system(command.c_str());
    Outcome outcome;
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    outcome.out = read_text_file(out, 1 << 24);
    outcome.err = read_text_file(err, 1 << 24);
    return outcome;
  }
  void expect_refusal(const std::string& arguments, int code, const std::string& message) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << arguments << "\n" << outcome.err;
    EXPECT_EQ(outcome.out, "") << arguments;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << arguments << "\n"
                                                                           << outcome.err;
  }
  /// A copy of a model folder to damage.
  fs::path copy(const std::string& name) {
    fs::copy(kModels / name, folder_ / name, fs::copy_options::recursive);
    return folder_ / name;
  }
  void edit(const fs::path& file, const std::function<void(Json&)>& change) {
    Json json = parse_json(read_text_file(file, 1 << 24), "test");
    change(json);
    std::ofstream(file) << json.dump();
  }

  fs::path folder_;
};

TEST_F(CliTest, HelpAndVersion) {
  const Outcome help = run("--help");
  EXPECT_EQ(help.code, 0);
  for (const char* command : {"run", "chat", "inspect", "verify", "eval", "bench", "doctor", "cache"}) {
    EXPECT_NE(help.out.find(command), std::string::npos) << command;
    const Outcome sub = run(std::string(command) + " --help");
    EXPECT_EQ(sub.code, 0);
    EXPECT_NE(sub.out.find("xample"), std::string::npos) << command;
  }
  EXPECT_EQ(run("--version").code, 0);
}

TEST_F(CliTest, UsageErrorsExitWithTwo) {
  for (const char* arguments :
       {"", "fly", "run", "run m --temperature", "run m --device tpu", "run m --max-tokens x",
        "run m --prompt a --messages b", "verify m", "eval m", "bench", "bench serve --request-rate 0",
        "cache", "run m --block-size 0", "serve m --gpu-memory-utilization 0",
        "serve m --gpu-memory-utilization 1.01", "serve m --gpu-memory-utilization nan",
        "serve m --gpu-memory-utilization 0.5 --kv-cache-memory-bytes 1048576"}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err, "") << arguments;
  }
}

TEST_F(CliTest, AnswersAWordProblem) {
  const std::string model = kModels / "mini-gpt-oss";
  const Outcome text =
      run("run " + model +
          " --prompt 'Gia is 24 years old. Dan is 8 years older than Gia. How old will Dan be in 9 years?'");
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_NE(text.out.find("#### 41"), std::string::npos) << text.out;
  EXPECT_NE(text.err.find("tokens/s"), std::string::npos) << text.err;
  const Outcome json = run("run " + model + " --json --prompt 'Hello' --max-tokens 4 --logprobs 2");
  EXPECT_EQ(json.code, 0) << json.err;
  EXPECT_EQ(json.err, "");
  const Json parsed = parse_json(json.out, "output");
  EXPECT_EQ(parsed["ids"].size(), 4U);
  EXPECT_EQ(parsed["logprobs"].size(), 4U);
}

TEST_F(CliTest, ShowsTheAnswerWithoutItsReasoning) {
  const std::string question =
      " --prompt 'Gia is 24 years old. Dan is 8 years older than Gia. How old will Dan be in 9 years?'";
  for (const char* name : {"mini-gpt-oss", "mini-qwen3"}) {
    const std::string command = "run " + (kModels / name).string() + question;
    const Json json = parse_json(run(command + " --json").out, "output");
    const Json plain =
        parse_json(run(command + " --json --tool-call-parser none --reasoning-parser none").out, "output");
    const auto reasoning = json["reasoning"].get<std::string>();
    const auto text = json["text"].get<std::string>();
    EXPECT_EQ(json["ids"], plain["ids"]) << name;
    EXPECT_NE(text.find("#### 41"), std::string::npos) << text;
    EXPECT_NE(reasoning, "") << name;
    EXPECT_EQ(text.find(reasoning), std::string::npos) << text;
    EXPECT_NE(plain["text"].get<std::string>().find(reasoning), std::string::npos) << plain["text"];
    EXPECT_EQ(json["tool_calls"], Json::array());
    const Outcome hidden = run(command);
    EXPECT_EQ(hidden.out, text + "\n") << name;
    EXPECT_EQ(hidden.err.find(reasoning), std::string::npos) << hidden.err;
    const Outcome shown = run(command + " --show-reasoning");
    EXPECT_EQ(shown.out, text + "\n") << name;
    EXPECT_NE(shown.err.find(reasoning), std::string::npos) << shown.err;
  }
}

TEST_F(CliTest, ChatTemplates) {
  const std::string model = kModels / "mini-qwen3";
  std::ofstream(folder_ / "echo.jinja")
      << "{{ messages[-1].content }}{{ tools[0].name }}{{ reasoning_effort }}";
  std::ofstream(folder_ / "bad.jinja") << "{% if %}";
  std::ofstream(folder_ / "raise.jinja") << "{{ raise_exception('not so') }}";
  std::ofstream(folder_ / "tools.json") << R"([{"name": "probe"}])";
  const std::string tail = " --json --max-tokens 1 --prompt ";
  const Outcome echo =
      run("run " + model + " --chat-template " + (folder_ / "echo.jinja").string() + " --tools " +
          (folder_ / "tools.json").string() + " --reasoning-effort low" + tail + "hello");
  const Outcome raw = run("run " + model + " --raw" + tail + "helloprobelow");
  ASSERT_EQ(echo.code, 0) << echo.err;
  EXPECT_EQ(parse_json(echo.out, "echo")["prompt_ids"], parse_json(raw.out, "raw")["prompt_ids"]);
  EXPECT_EQ(
      run("run " + (kModels / "mini-gpt-oss").string() + " --chat-template harmony" + tail + "hello").code,
      0);
  expect_refusal("run " + model + " --prompt x --chat-template " + (folder_ / "bad.jinja").string(), 1,
                 "bad.jinja: line 1");
  expect_refusal("run " + model + " --prompt x --chat-template " + (folder_ / "raise.jinja").string(), 2,
                 "raise.jinja: ");
  expect_refusal("run " + model + " --prompt x --tools " + (folder_ / "echo.jinja").string(), 2,
                 "echo.jinja");
  expect_refusal("run " + model + " --prompt x --tool-call-parser hermez", 2, "hermez");
}

TEST_F(CliTest, VerifiesEveryModel) {
  for (const char* name : {"mini-gpt-oss", "mini-qwen3", "mini-qwen3-moe"})
    for (const char* precision : {"exact", "default"}) {
      const std::string model = kModels / name;
      const Outcome outcome = run("verify " + model + " --reference " + model +
                                  "/reference.json --precision " + precision + " --json");
      EXPECT_EQ(outcome.code, 0) << name << " " << precision << "\n" << outcome.out << outcome.err;
      EXPECT_GE(parse_json(outcome.out, "output")["top_choice_share"].get<double>(), 0.98)
          << name << " " << precision;
    }
}

TEST_F(CliTest, VerifyFailsOnAWrongReference) {
  const std::string model = kModels / "mini-qwen3";
  OrderedJson reference = parse_ordered_json(read_text_file(model + "/reference.json", 1 << 24), "test");
  reference["cases"][0]["last_logits"][5] = reference["cases"][0]["last_logits"][5].get<double>() + 0.01;
  std::ofstream(folder_ / "logits.json") << reference.dump();
  EXPECT_EQ(
      run("verify " + model + " --precision exact --reference " + (folder_ / "logits.json").string()).code,
      1);
  reference = parse_ordered_json(read_text_file(model + "/reference.json", 1 << 24), "test");
  reference["cases"][1]["greedy_ids"][3] = 7;
  std::ofstream(folder_ / "ids.json") << reference.dump();
  EXPECT_EQ(run("verify " + model + " --precision exact --reference " + (folder_ / "ids.json").string()).code,
            1);
}

TEST_F(CliTest, RefusesBadFlagValues) {
  const std::string model = kModels / "mini-qwen3";
  expect_refusal("run " + model + " --prompt x --temperature -1", 2, "temperature");
  expect_refusal("run " + model + " --prompt x --temperature nan", 2, "temperature");
  expect_refusal("run " + model + " --prompt x --top-p 1.5", 2, "top_p");
  expect_refusal("run " + model + " --prompt ''", 2, "empty");
  expect_refusal("run " + model + " --prompt x --cpu-tier sse9", 2, "sse9");
  expect_refusal("run " + model + " --prompt x --max-model-len 99999999", 2, "max_position_embeddings");
  expect_refusal("run " + model + " --prompt 'one two three four' --max-model-len 4", 2, "context");
  expect_refusal("run " + model + " --raw --prompt \"$(printf '\\377\\376')\"", 2, "UTF-8");
  expect_refusal("run " + model + " --messages " + (folder_ / "absent.json").string(), 1, "absent.json");
  expect_refusal("run " + model + " --prompt x --template-kwargs '[1]'", 2, "template-kwargs");
  expect_refusal("run /nonexistent/model --prompt x", 1, "/nonexistent/model");
  expect_refusal("run " + model + "/config.json --prompt x", 2, "no folder");
  EXPECT_EQ(run("run " + model + " --prompt x", "SABREWING_TEMPERATURE=-3").code, 2);
}

TEST_F(CliTest, AShareOfTheMemoryNeedsAGpu) {
  const Outcome outcome = run("serve " + (kModels / "mini-qwen3").string() +
                              " --device cpu --port 0 --gpu-memory-utilization 0.5");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("--gpu-memory-utilization 0.5: the model runs on cpu"), std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("--kv-cache-memory-bytes"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("loaded"), std::string::npos) << "before any weight is read";
}

TEST_F(CliTest, RefusesServersThatAreNot) {
  const std::string task = std::string(SABREWING_SOURCE_DIR) + "/tests/acceptance/word_problems.jsonl";
  expect_refusal("eval --task " + task, 2, "either MODEL or --base-url");
  expect_refusal("eval some/model --base-url http://127.0.0.1:1 --task " + task, 2,
                 "either MODEL or --base-url");
  expect_refusal("eval --base-url http://127.0.0.1:1 --task " + task, 1, "cannot connect to 127.0.0.1:1");
  expect_refusal("eval --base-url https://host --task " + task, 2, "https");
  expect_refusal("bench serve --base-url http://127.0.0.1:1 --ready-check-timeout-sec 0", 1, "not ready");
  expect_refusal("bench serve --dataset-name random-ids --backend openai-chat", 2, "random-ids");
  expect_refusal("bench serve --dataset-name custom", 2, "--dataset-path");
  expect_refusal("bench serve --metric-percentiles 101", 2, "101");
  expect_refusal("bench serve --goodput itl:5", 2, "itl:5");
}

TEST_F(CliTest, RefusesDamagedFolders) {
  const std::string weights = "model.safetensors";
  {
    const fs::path model = copy("mini-qwen3");
    fs::resize_file(model / weights, fs::file_size(model / weights) - 1000);
    expect_refusal("run " + model.string() + " --prompt x", 1, weights);
    fs::resize_file(model / weights, 3);
    expect_refusal("run " + model.string() + " --prompt x", 1, weights);
    fs::remove(model / weights);
    expect_refusal("run " + model.string() + " --prompt x", 1, "safetensors");
  }
  fs::remove_all(folder_ / "mini-qwen3");
  {
    const fs::path model = copy("mini-qwen3");
    edit(model / "config.json", [](Json& j) { j["num_hidden_layers"] = 3, j["layer_types"].erase(0); });
    expect_refusal("run " + model.string() + " --prompt x", 1, "model.layers.3");
    edit(model / "config.json", [](Json& j) { j["num_hidden_layers"] = 5, j["layer_types"] = nullptr; });
    expect_refusal("run " + model.string() + " --prompt x", 1, "model.layers.4");
    edit(model / "config.json", [](Json& j) { j["num_hidden_layers"] = 4, j["intermediate_size"] = 500; });
    expect_refusal("run " + model.string() + " --prompt x", 1, "mlp.gate_proj.weight has shape");
    edit(model / "config.json", [](Json& j) { j["vocab_size"] = 100; });
    expect_refusal("run " + model.string() + " --prompt x", 1, "[");
    fs::remove(model / "tokenizer.json");
    expect_refusal("run " + model.string() + " --prompt x", 1, "[");
  }
}

TEST_F(CliTest, DummyWeightsNeedOnlyAConfig) {
  const fs::path config = folder_ / "some-config.json";
  fs::copy(kModels / "mini-gpt-oss" / "config.json", config);
  const Outcome outcome = run("bench latency " + config.string() +
                              " --load-format dummy --prompt-tokens 8 --output-tokens 4 --repeats 1");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("decode"), std::string::npos);
  EXPECT_EQ(run("inspect " + config.string() + " --load-format dummy --json").code, 0);
}

TEST_F(CliTest, KernelBenchRefusesFlagsOfTheOtherDevice) {
  for (const char* flags : {"--device cuda --threads 2", "--device cuda --check", "--m 4", "--explain"}) {
    const Outcome outcome = run(std::string("bench kernel ") + flags);
    EXPECT_EQ(outcome.code, 2) << flags;
    EXPECT_NE(outcome.err.find("has no meaning with --device"), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(run("bench kernel --device cuda --weights int9").code, 2);
  EXPECT_EQ(run("bench kernel --device tpu").code, 2);
}

TEST_F(CliTest, FullDiskIsAnError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const std::string command = SABREWING_BINARY " --help > /dev/full 2>/dev/null";
  EXPECT_NE(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace sabrewing
