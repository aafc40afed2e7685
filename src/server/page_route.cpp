// GET /: the chat page, one file that loads nothing else.
#include <fmt/core.h>

#include "core/embedded.h"
#include "jit/sha256.h"
#include "server/routes.h"

namespace sabrewing::embedded {
extern const EmbeddedFile kPageFiles[];
}

namespace sabrewing::server {
namespace {

std::string base64(const jit::Digest& digest) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < digest.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k) bits = bits << 8 | (i + k < digest.size() ? digest[i + k] : 0);
    for (int shift = 18; shift >= 0; shift -= 6) text += kDigits[bits >> shift & 63];
  }
  // 32 bytes: two in the last group.
  text.back() = '=';
  return text;
}

/// 'sha256-...' of what stands inside the page's one element `tag`.
std::string hash_of(std::string_view page, std::string_view tag) {
  const std::string open = fmt::format("<{}>", tag);
  const std::size_t begin = page.find(open) + open.size();
  const std::string_view inside = page.substr(begin, page.find(fmt::format("</{}>", tag), begin) - begin);
  return fmt::format("'sha256-{}'", base64(jit::sha256(std::as_bytes(std::span(inside)))));
}

/// Only the page's own script and style run, and they reach this server alone.
std::string content_policy(std::string_view page) {
  return fmt::format(
      "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; "
      "form-action 'none'; frame-ancestors 'none'",
      hash_of(page, "script"), hash_of(page, "style"));
}

}  // namespace

void handle_page(const std::shared_ptr<Service>&, const ExchangePtr& exchange) {
  static const std::string_view page(embedded::kPageFiles[0].data, embedded::kPageFiles[0].size);
  static const std::string policy = content_policy(page);
  Response response;
  response.content_type = "text/html; charset=utf-8";
  response.headers = {{"Content-Security-Policy", policy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}};
  response.body = page;
  exchange->respond(std::move(response));
}

}  // namespace sabrewing::server
