// POST /v1/completions.
#include <fmt/core.h>

#include <limits>
#include <utility>

#include "server/answer.h"
#include "server/constraints.h"
#include "server/errors.h"
#include "server/generation.h"
#include "server/logprobs.h"
#include "server/routes.h"
#include "server/sampling_fields.h"

namespace sabrewing::server {
namespace {

constexpr std::int64_t kDefaultTokens = 16;

struct CompletionRequest {
  GenerationRequest generation;
  StreamOptions stream;
  std::string id;
  std::vector<Header> headers;
  std::vector<std::string> prompt_texts;  ///< one per prompt, with `echo`
  bool echo = false;
  bool logprobs = false;
  bool prompt_logprobs = false;
  OutputOptions output;
};

std::vector<std::int32_t> read_ids(const OrderedJson& list) {
  const OrderedJson wrapped = {{"prompt", list}};
  return *Fields(wrapped).ids("prompt", list.size());
}

/// A text, a list of ids, or a list of texts or of such lists.
void read_prompts(Fields& fields, const Service& service, CompletionRequest& request) {
  const OrderedJson* prompt = fields.find("prompt");
  if (prompt == nullptr)
    throw ApiError(400, "prompt: a string, a list of strings or token ids expected", "prompt");
  const bool special = fields.boolean("add_special_tokens").value_or(true);
  const auto add = [&](const OrderedJson& one) {
    std::vector<std::int32_t> ids;
    if (one.is_string())
      ids = service.encode(one.get_ref<const std::string&>(), special, "prompt");
    else if (one.is_array())
      ids = read_ids(one);
    else
      fields.fail("prompt", fmt::format("a string or a list of token ids expected, found {}", type_of(one)));
    truncate_prompt(fields, service, ids);
    if (ids.empty()) fields.fail("prompt", "the prompt is empty");
    service.check_length(ids.size(), "prompt");
    for (const std::int32_t id : ids)
      if (id >= service.engine().vocabulary())
        fields.fail("prompt",
                    fmt::format("token id {}: 0 to {} expected", id, service.engine().vocabulary() - 1));
    if (request.echo) {
      if (one.is_string())
        request.prompt_texts.push_back(one.get_ref<const std::string&>());
      else if (service.model().tokenizer != nullptr)
        request.prompt_texts.push_back(service.model().tokenizer->decode(ids, true));
      else
        request.prompt_texts.emplace_back();
    }
    request.generation.prompts.push_back(std::move(ids));
  };
  if (!prompt->is_array() || (!prompt->empty() && prompt->front().is_number())) return add(*prompt);
  const auto most = static_cast<std::size_t>(service.options().max_prompts);
  if (prompt->empty() || prompt->size() > most)
    fields.fail("prompt", fmt::format("{} prompts: 1 to {} expected", prompt->size(), most));
  for (const OrderedJson& one : *prompt) {
    if (one.is_string() != prompt->front().is_string())
      fields.fail("prompt", "texts and lists of token ids in one list");
    add(one);
  }
}

CompletionRequest read_completion_request(const OrderedJson& body, const Service& service,
                                          const Exchange& exchange) {
  Fields fields(body);
  check_model(service, fields);
  CompletionRequest request;
  GenerationRequest& generation = request.generation;
  request.id = response_id(fields, exchange, "cmpl-");
  request.stream = read_stream_options(fields);
  request.echo = fields.boolean("echo").value_or(false);
  request.output = read_output_options(fields);
  fields.refuse("suffix", "this model completes at the end only");
  read_sampling(fields, service, generation);
  restrict_answer(service, {}, read_content_format(fields), nullptr, generation);

  engine::SamplingParams& params = generation.common.sampling;
  const auto asked = fields.integer("max_tokens", 0, kMostTokens);
  const auto newer = fields.integer("max_completion_tokens", 0, kMostTokens);
  const std::int64_t tokens = asked.value_or(newer.value_or(kDefaultTokens));
  generation.common.prompt_only = tokens == 0;
  params.max_tokens = std::max<std::int64_t>(tokens, 1);
  const std::int64_t most = service.options().max_logprobs;
  if (const auto top = fields.integer("logprobs", 0, most)) {
    request.logprobs = true;
    params.logprobs = top;
    if (request.echo) generation.common.prompt_logprobs = top;
  }
  if (const auto top = fields.integer("prompt_logprobs", 0, most)) {
    if (request.stream.stream) fields.fail("prompt_logprobs", "not with stream: true");
    request.prompt_logprobs = true;
    generation.common.prompt_logprobs = std::max(*top, generation.common.prompt_logprobs.value_or(0));
  }
  check_sampling(fields, service, params);
  read_prompts(fields, service, request);
  for (const std::vector<std::int32_t>& prompt : generation.prompts)
    service.check_answer_length(asked ? asked : newer, prompt.size(),
                                asked ? "max_tokens" : "max_completion_tokens");
  const auto answers = static_cast<std::int64_t>(generation.prompts.size()) * generation.choices;
  if (answers > service.options().max_answers)
    fields.fail("n",
                fmt::format("{} answers in one request, at most {}", answers, service.options().max_answers));
  request.headers = ignored_header(fields);
  return request;
}

class Completion {
 public:
  Completion(std::shared_ptr<Service> service, ExchangePtr exchange, CompletionRequest request)
      : service_(std::move(service)),
        exchange_(std::move(exchange)),
        request_(std::move(request)),
        prompts_(request_.generation.prompts),
        created_(unix_seconds()),
        open_(prompts_.size() * static_cast<std::size_t>(request_.generation.choices)),
        usage_(open_, request_.generation.choices),
        choices_(open_, Choice(*service_, request_.output.tokens_as_ids)),
        events_(exchange_, request_.headers) {}

  GenerationRequest take_generation() { return std::move(request_.generation); }
  void hear(std::size_t index, const engine::RequestUpdate& update);

 private:
  struct Choice {
    Choice(const Service& service, bool as_ids) : logprobs(service, as_ids) {}
    std::string text;
    std::vector<std::int32_t> ids;
    CompletionLogprobs logprobs;
    std::vector<engine::TokenLogprobs> prompt;
    engine::RequestUpdate last;
    bool started = false;
  };

  std::size_t prompt_of(std::size_t index) const {
    return index / static_cast<std::size_t>(request_.generation.choices);
  }
  void start(std::size_t index, Choice& choice);
  OrderedJson frame(OrderedJson choices) const;
  OrderedJson choice_json(std::size_t index, Choice& choice, const engine::RequestUpdate& update);
  void send(std::size_t index, Choice& choice, const engine::RequestUpdate& update);
  void finish();

  const std::shared_ptr<Service> service_;
  const ExchangePtr exchange_;
  CompletionRequest request_;
  const std::vector<std::vector<std::int32_t>> prompts_;
  const std::int64_t created_;
  std::size_t open_;
  UsageSum usage_;
  std::vector<Choice> choices_;
  EventStream events_;
  bool failed_ = false;
};

/// The prompt's part of the answer, before its first token.
void Completion::start(std::size_t index, Choice& choice) {
  choice.started = true;
  if (!request_.echo) return;
  choice.text = request_.prompt_texts[prompt_of(index)];
  if (!request_.logprobs) return;
  choice.logprobs.add(prompts_[prompt_of(index)].front());
  for (const engine::TokenLogprobs& entry : choice.prompt) choice.logprobs.add(entry);
}

OrderedJson Completion::frame(OrderedJson choices) const {
  return {{"id", request_.id},
          {"object", "text_completion"},
          {"created", created_},
          {"model", service_->model_name()},
          {"choices", std::move(choices)}};
}

OrderedJson Completion::choice_json(std::size_t index, Choice& choice, const engine::RequestUpdate& update) {
  OrderedJson json = {{"index", index}, {"text", std::exchange(choice.text, {})}};
  json["logprobs"] = request_.logprobs ? choice.logprobs.take() : OrderedJson();
  json["finish_reason"] = finish_reason(update);
  json["stop_reason"] = stop_reason(update);
  if (request_.output.return_ids) json["token_ids"] = std::exchange(choice.ids, {});
  return json;
}

void Completion::send(std::size_t index, Choice& choice, const engine::RequestUpdate& update) {
  OrderedJson json = choice_json(index, choice, update);
  OrderedJson chunk = frame(OrderedJson::array({std::move(json)}));
  if (request_.stream.continuous_usage)
    chunk["usage"] = usage_json(usage_.of(index));
  else if (request_.stream.include_usage)
    chunk["usage"] = nullptr;
  events_.send(chunk);
}

void Completion::hear(std::size_t index, const engine::RequestUpdate& update) {
  Choice& choice = choices_[index];
  usage_.update(index, update.usage);
  choice.prompt.insert(choice.prompt.end(), update.prompt_logprobs.begin(), update.prompt_logprobs.end());
  const bool starts = !choice.started && (!update.tokens.empty() || update.finished);
  if (starts) start(index, choice);
  for (const engine::OutputToken& token : update.tokens) {
    choice.text += token.text;
    if (request_.output.return_ids) choice.ids.push_back(token.id);
    if (request_.logprobs) choice.logprobs.add(token.logprobs);
  }
  if (update.finished) {
    if (request_.output.stop_in_output && update.stop_string) choice.text += *update.stop_string;
    choice.last = update;
    --open_;
    const bool wrong = update.error.has_value() || update.reason == engine::FinishReason::kAborted;
    if (wrong && !failed_) {
      failed_ = true;
      events_.fail(failed_answer(update));
    }
  }
  // Also tokens that have no text yet: clients time them.
  if (request_.stream.stream && !failed_ && (update.finished || !update.tokens.empty()))
    send(index, choice, update);
  if (open_ == 0) finish();
}

void Completion::finish() {
  if (request_.stream.stream) {
    if (request_.stream.include_usage && !failed_) {
      OrderedJson chunk = frame(OrderedJson::array());
      chunk["usage"] = usage_json(usage_.total());
      events_.send(chunk);
    }
    return events_.done();
  }
  if (failed_) return;
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    OrderedJson json = choice_json(i, choices_[i], choices_[i].last);
    if (request_.prompt_logprobs) json["prompt_logprobs"] = prompt_logprobs(*service_, choices_[i].prompt);
    if (request_.output.return_ids) json["prompt_token_ids"] = prompts_[prompt_of(i)];
    list.push_back(std::move(json));
  }
  OrderedJson body = frame(std::move(list));
  body["usage"] = usage_json(usage_.total());
  Response response = json_response(body);
  response.headers = request_.headers;
  exchange_->respond(std::move(response));
}

}  // namespace

void handle_completions(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const auto completion = std::make_shared<Completion>(
      service, exchange, read_completion_request(read_body(*exchange), *service, *exchange));
  start_generation(service, completion->take_generation(), exchange,
                   [completion](std::size_t index, const engine::RequestUpdate& update) {
                     completion->hear(index, update);
                   });
}

}  // namespace sabrewing::server
