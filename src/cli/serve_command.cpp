#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "cli/command.h"
#include "cli/progress.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/kv_cache.h"
#include "server/server.h"
#include "text/chat/parser.h"

namespace sabrewing::cli {
namespace {

struct ServeArguments {
  ModelOptions model;
  engine::EngineOptions engine;
  server::HttpLimits http;
  server::ServiceOptions service;
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  std::string kv_cache_dtype = "auto";
  std::size_t kv_cache_bytes = std::size_t{1} << 30;
  std::optional<double> memory_share;
  std::string tool_parser;
  std::string reasoning_parser;
  bool auto_tools = false;
  std::uint64_t seed = 0;
  bool has_seed = false;
  std::string log_level = "info";
  int drain_seconds = 30;
  int workers = 4;
};

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

void set_log_level(const std::string& name) {
  const LogLevel least = name == "debug"     ? LogLevel::kDebug
                         : name == "warning" ? LogLevel::kWarning
                         : name == "error"   ? LogLevel::kError
                                             : LogLevel::kInfo;
  set_log_sink([least](LogLevel level, std::string_view message) {
    if (level < least) return;
    const char* kind = level == LogLevel::kWarning ? "warning: " : level == LogLevel::kError ? "error: " : "";
    fmt::print(stderr, "sabrewing: {}{}\n", kind, message);
  });
}

/// As many file descriptors as connections need and the system allows.
void raise_descriptor_limit(server::HttpLimits& limits) {
  constexpr rlim_t kOthers = 128;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = limits.connections + kOthers;
  if (limit.rlim_cur < wanted) {
    limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? wanted : std::min(wanted, limit.rlim_max);
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  if (limit.rlim_cur >= wanted) return;
  limits.connections = std::max<std::size_t>(8, limit.rlim_cur > kOthers ? limit.rlim_cur - kOthers : 0);
  log(LogLevel::kWarning, "at most {} connections: the limit of open files is {}", limits.connections,
      limit.rlim_cur);
}

/// Parsers asked for, else those that fit the model.
void choose_parsers(const ServeArguments& options, const engine::LoadedModel& model,
                    server::ServiceOptions& service) {
  const auto check = [](const char* flag, const std::string& name, const std::vector<std::string>& known) {
    SABREWING_CHECK(name.empty() || name == "auto" || name == "none" ||
                        std::find(known.begin(), known.end(), name) != known.end(),
                    kInvalidArgument, "[serve] {} \"{}\" is not known: auto, none, {}", flag, name,
                    join(known));
  };
  check("--tool-call-parser", options.tool_parser, text::tool_parser_names());
  check("--reasoning-parser", options.reasoning_parser, text::reasoning_parser_names());
  const text::ChatParserDefaults fitting = model.chat_parsers();
  const auto choose = [](const std::string& asked, const std::string& fits) {
    if (asked.empty() || asked == "auto") return fits;
    return asked == "none" ? std::string() : asked;
  };
  service.tool_parser = choose(options.tool_parser, fitting.tool_parser);
  service.reasoning_parser = choose(options.reasoning_parser, fitting.reasoning_parser);
  SABREWING_CHECK(
      !options.auto_tools || !service.tool_parser.empty(), kInvalidArgument,
      "[serve] --enable-auto-tool-choice needs a --tool-call-parser: none fits this model; known: {}",
      join(text::tool_parser_names()));
  if (model.tokenizer == nullptr) service.tool_parser = service.reasoning_parser = "";
}

void print_table(const ServeArguments& options, const engine::LoadedModel& model,
                 const engine::Engine& engine, const server::ServiceOptions& service) {
  const models::DecoderSpec& spec = model.decoder->spec();
  std::vector<std::vector<std::string>> table{{"module", "matrices", "format", "bytes", "kernel"}};
  for (const models::ModuleReport& m : model.modules)
    table.push_back({m.group, std::to_string(m.count), m.format, format_bytes(m.bytes), m.kernel});
  const engine::EngineStats stats = engine.stats();
  fmt::print(stderr, "{}: {} layers on {}{}\n\n{}\n", spec.model_type, spec.layers.size(),
             model.backend->description(), model.device_note.empty() ? "" : " (" + model.device_note + ")",
             format_table(table));
  fmt::print(stderr, "context     {} tokens; at most {} requests and {} tokens in a step\n",
             engine.max_context(), options.engine.max_num_seqs, options.engine.max_num_batched_tokens);
  fmt::print(stderr, "cache       {} blocks of {} tokens, {}; prefix cache {}\n", stats.blocks,
             options.engine.block_size,
             format_bytes(engine::Engine::cache_bytes(*model.decoder, options.engine)),
             options.engine.prefix_caching ? "on" : "off");
  fmt::print(stderr, "scratch     {}\n",
             format_bytes(engine::Engine::workspace_bytes(*model.decoder, options.engine)));
  const auto or_none = [](const std::string& name) { return name.empty() ? "none" : name; };
  fmt::print(stderr, "chat        template {}, tool calls {}, reasoning {}\n",
             !options.model.chat_template.empty() ? options.model.chat_template
             : model.chat_templates               ? model.chat_templates->origin()
                                                  : "none",
             or_none(service.tool_parser), or_none(service.reasoning_parser));
  fmt::print(stderr, "clients     model {}; {}; {} connections at most\n", join(service.model_names),
             service.api_keys.empty() ? "no API key" : "API key needed", options.http.connections);
}

/// What --gpu-memory-utilization leaves to this process; nothing without it.
std::optional<engine::MemoryShare> memory_share(const ServeArguments& options,
                                                const kernels::Backend& backend) {
  if (!options.memory_share) return std::nullopt;
  const std::optional<kernels::DeviceMemory> memory = backend.memory();
  SABREWING_CHECK(
      memory, kUnsupported,
      "[serve] --gpu-memory-utilization {}: the model runs on {}, which has no memory of its own; "
      "--kv-cache-memory-bytes sets the size of the cache",
      *options.memory_share, backend.name());
  return engine::MemoryShare(*options.memory_share, *memory);
}

int serve(ServeArguments options) {
  set_log_level(options.log_level);
  SABREWING_CHECK(options.kv_cache_dtype == "auto", kUnsupported,
                  "[serve] --kv-cache-dtype {} is not supported: auto (what the backend computes with)",
                  options.kv_cache_dtype);
  for (const std::string& key : options.service.api_keys)
    SABREWING_CHECK(!key.empty(), kInvalidArgument, "[serve] an --api-key is empty");
  raise_descriptor_limit(options.http);
  // Whatever can be refused is refused before a weight is read.
  server::HttpServer http(options.host, options.port, options.http);
  engine::LoadedModel model = engine::open_model(options.model.load_options());
  server::ServiceOptions& service = options.service;
  if (service.model_names.empty()) service.model_names = {options.model.model};
  service.version = SABREWING_VERSION;
  if (options.has_seed) service.seed = options.seed;
  choose_parsers(options, model, service);
  options.engine.max_context = options.model.max_context;
  options.engine.block_size = options.model.block_size;
  options.engine.kv_bytes = options.kv_cache_bytes;
  const std::optional<engine::MemoryShare> share = memory_share(options, *model.backend);
  if (share) options.engine.kv_bytes = share->bytes();
  engine::Engine::cache_bytes(*model.decoder, options.engine);
  load_weights(model, options.model, false);
  if (share)
    options.engine.kv_bytes = share->cache_bytes(
        *model.backend->memory(), engine::Engine::workspace_bytes(*model.decoder, options.engine));
  engine::Engine engine({model.decoder.get(), model.tokenizer.get(), model.eos_ids}, options.engine);
  const auto shared = std::make_shared<server::Service>(model, engine, service);
  print_table(options, model, engine, service);
  fmt::print(stderr, "listening   http://{}\n", http.address());
  server::RunOptions run;
  run.workers = options.workers;
  run.drain_time = std::chrono::seconds(options.drain_seconds);
  run.catch_signals = true;
  server::run_server(http, shared, run);
  fmt::print(stderr, "ended\n");
  return 0;
}

void add_engine_flags(CLI::App& command, ServeArguments& options) {
  const auto add = [&](const char* flag, auto& value, std::int64_t most, const char* help) {
    add_flag_option(command, flag, value, help)
        ->check(CLI::Range(std::int64_t{1}, most))
        ->capture_default_str();
  };
  add("--max-num-seqs", options.engine.max_num_seqs, 65536, "Requests in one step");
  add("--max-num-batched-tokens", options.engine.max_num_batched_tokens, std::int64_t{1} << 20,
      "Tokens in one step");
  add("--max-waiting", options.engine.max_waiting, std::int64_t{1} << 20,
      "Requests in the queue; more get 503");
  add_flag_option(command, "--kv-cache-dtype", options.kv_cache_dtype, "auto: what the backend computes with")
      ->capture_default_str();
  CLI::Option* bytes = add_flag_option(command, "--kv-cache-memory-bytes", options.kv_cache_bytes,
                                       "Memory of the key/value cache")
                           ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 46))
                           ->capture_default_str();
  add_flag_option(
      command, "--gpu-memory-utilization", options.memory_share,
      "Share of the GPU's memory for weights, scratch and cache together; sets the size of the cache")
      ->check(CLI::Validator(
          [](std::string& text) {
            double share = 0;
            return CLI::detail::lexical_cast(text, share) && share > 0 && share <= 1
                       ? std::string()
                       : text + " is not above 0 and at most 1";
          },
          "NUMBER in (0 - 1]"))
      ->excludes(bytes);
  command.add_flag("--enable-prefix-caching,!--no-enable-prefix-caching", options.engine.prefix_caching,
                   "Reuse the cache of equal beginnings of prompts (default: on)");
}

}  // namespace

void add_serve(CLI::App& app, Action& action) {
  auto options = std::make_shared<ServeArguments>();
  CLI::App* command = app.add_subcommand("serve", "Serve a model over HTTP with OpenAI's API");
  options->model.add_to(*command);
  // The engine's own flag says what it means here.
  command->remove_option(command->get_option("--prefill-chunk"));
  add_flag_option(*command, "--host", options->host, "Address to listen on; 0.0.0.0: every network")
      ->capture_default_str();
  add_flag_option(*command, "--port", options->port, "Port to listen on; 0: any free one")
      ->capture_default_str();
  add_flag_option(*command, "--served-model-name", options->service.model_names,
                  "Names that clients may use, the first in answers (default: MODEL)");
  add_engine_flags(*command, *options);
  add_flag_option(
      *command, "--chat-template", options->model.chat_template,
      "Jinja file, or a built-in renderer (harmony, deepseek_v4), instead of the model's template");
  add_flag_option(*command, "--tool-call-parser", options->tool_parser,
                  "How the model writes tool calls; auto: what fits it, none: as text");
  add_flag_option(*command, "--reasoning-parser", options->reasoning_parser,
                  "How the model writes its reasoning; auto: what fits it, none: as text");
  command->add_flag("--enable-auto-tool-choice", options->auto_tools,
                    "Fail unless there is a tool call parser (tools work whenever there is one)");
  add_flag_option(*command, "--api-key", options->service.api_keys,
                  "Key that clients must send; several are allowed (default: none)");
  add_flag_option(*command, "--allowed-origins", options->service.allowed_origins,
                  "Origins whose pages may ask, as a browser sends them; *: any (default: none)");
  CLI::Option* seed = add_flag_option(*command, "--seed", options->seed,
                                      "Seed of requests that bring none (default: random)");
  add_flag_option(*command, "--log-level", options->log_level, "info: one line per request")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  add_flag_option(*command, "--shutdown-timeout", options->drain_seconds,
                  "Seconds that answers under way have after SIGTERM or Ctrl-C")
      ->check(CLI::Range(0, 86400))
      ->capture_default_str();
  add_flag_option(*command, "--api-workers", options->workers, "Threads that read requests")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  add_flag_option(*command, "--max-connections", options->http.connections, "Connections open at once")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20))
      ->capture_default_str();
  add_flag_option(*command, "--max-body-bytes", options->http.body_bytes, "Longest request body")
      ->check(CLI::Range(std::size_t{1024}, std::size_t{1} << 30))
      ->capture_default_str();
  command->footer(
      "Examples:\n  sabrewing serve models/mini-qwen3\n"
      "  sabrewing serve MODEL --served-model-name my-model --api-key SECRET --port 9000\n"
      "  curl -s http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\\n"
      "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'\n\n"
      "Tables and one line per request go to standard error. SIGTERM and Ctrl-C let answers under way end; "
      "a\n"
      "second signal ends at once.");
  command->callback([options, seed, &action] {
    options->has_seed = seed->count() > 0;
    action = [options] { return serve(*options); };
  });
}

}  // namespace sabrewing::cli
