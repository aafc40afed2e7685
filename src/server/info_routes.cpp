// What the server says about itself.
#include "core/error.h"
#include "server/routes.h"

namespace sabrewing::server {

void handle_health(const std::shared_ptr<Service>&, const ExchangePtr& exchange) {
  exchange->respond(json_response({{"status", "ok"}}));
}

void handle_ready(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  Response response = json_response({{"status", service->draining ? "draining" : "ready"}});
  if (service->draining) response.status = 503;
  exchange->respond(std::move(response));
}

void handle_version(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  exchange->respond(json_response({{"version", service->options().version}}));
}

void handle_models(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  OrderedJson list = OrderedJson::array();
  for (const std::string& name : service->options().model_names)
    list.push_back({{"id", name},
                    {"object", "model"},
                    {"created", service->started()},
                    {"owned_by", "sabrewing"},
                    {"root", service->model_name()},
                    {"parent", nullptr},
                    {"max_model_len", service->engine().max_context()}});
  exchange->respond(json_response({{"object", "list"}, {"data", std::move(list)}}));
}

void handle_tokenizer_info(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  service->tokenizer("tokenizer_info");
  OrderedJson info = {{"bos_token", nullptr}, {"eos_token", nullptr}, {"pad_token", nullptr}};
  std::string source;
  if (const auto& templates = service->model().chat_templates) {
    info.update(templates->special_tokens());
    source = templates->source("default");
  }
  info["chat_template"] = source.empty() ? OrderedJson() : OrderedJson(source);
  info["vocab_size"] = service->engine().vocabulary();
  info["model_max_length"] = service->engine().max_context();
  exchange->respond(json_response(info));
}

void handle_server_info(const std::shared_ptr<Service>& service, const ExchangePtr& exchange) {
  const engine::LoadedModel& model = service->model();
  OrderedJson modules = OrderedJson::array();
  for (const models::ModuleReport& module : model.modules)
    modules.push_back({{"module", module.group},
                       {"format", module.format},
                       {"kernel", module.kernel},
                       {"matrices", module.count},
                       {"bytes", module.bytes}});
  const engine::EngineStats stats = service->engine().stats();
  exchange->respond(json_response({{"version", service->options().version},
                                   {"model", service->model_name()},
                                   {"architecture", model.decoder->spec().model_type},
                                   {"backend", model.backend->description()},
                                   {"device_note", model.device_note},
                                   {"modules", std::move(modules)},
                                   {"weight_bytes", model.decoder->weight_bytes()},
                                   {"max_model_len", service->engine().max_context()},
                                   {"kv_cache_blocks", stats.blocks},
                                   {"tool_call_parser", service->options().tool_parser},
                                   {"reasoning_parser", service->options().reasoning_parser}}));
}

}  // namespace sabrewing::server
