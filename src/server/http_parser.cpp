#include "server/http_parser.h"

#include <fmt/core.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <charconv>

#include "server/errors.h"

namespace sabrewing::server {
namespace {

namespace http = boost::beast::http;
using Parser = http::request_parser<http::string_body>;

std::string text(boost::beast::string_view view) { return {view.data(), view.size()}; }

bool equals(boost::beast::string_view a, const char* b) { return boost::beast::iequals(a, b); }

/// Whether `rest` is a last chunk without what every body has after it, one more line end at least. Beast
/// asserts that there is more once it has seen so much.
bool last_chunk_alone(std::string_view rest) { return rest.size() < 5 && rest.starts_with("0\r\n"); }

/// Takes the scheme and the authority off a target in absolute form, which servers must accept
/// (RFC 9112, 3.2.2).
std::string_view without_authority(std::string_view target) {
  for (const char* scheme : {"http://", "https://"}) {
    const std::string_view name(scheme);
    if (target.size() < name.size() || !equals(target.substr(0, name.size()), scheme)) continue;
    const std::size_t end = target.find_first_of("/?", name.size());
    return end == std::string_view::npos ? "/" : target.substr(end);
  }
  return target;
}

/// With %XX replaced by the byte; nothing when one is malformed.
std::optional<std::string> percent_decode(std::string_view encoded) {
  std::string decoded;
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    if (encoded[i] != '%') {
      decoded += encoded[i];
      continue;
    }
    unsigned char byte = 0;
    const std::string_view digits = encoded.substr(i + 1, 2);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (digits.size() != 2 || error != std::errc() || end != digits.data() + 2) return std::nullopt;
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

}  // namespace

struct RequestParser::Impl {
  explicit Impl(const HttpLimits& its_limits) : limits(its_limits) {
    parser.header_limit(static_cast<std::uint32_t>(limits.header_bytes));
    parser.body_limit(limits.body_bytes);
    parser.eager(true);
  }

  void refuse(int status, std::string message) {
    refusal = error_response(ApiError(status, std::move(message)));
  }
  void refuse(const boost::system::error_code& error);
  void check_header();

  const HttpLimits limits;
  Parser parser;
  bool checked = false;
  std::string path;
  std::string query;
  std::optional<Response> refusal;
};

void RequestParser::Impl::refuse(const boost::system::error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    refuse(431, fmt::format("the header has more than {} bytes", limits.header_bytes));
  else if (error == http::error::body_limit)
    refuse(413, fmt::format("the body has more than {} bytes", limits.body_bytes));
  else if (error == http::error::bad_version)
    refuse(505, "HTTP/1.1 expected");
  else
    refuse(400, fmt::format("malformed HTTP: {}", error.message()));
}

void RequestParser::Impl::check_header() {
  checked = true;
  const auto& message = parser.get();
  const auto fields = static_cast<std::size_t>(std::distance(message.begin(), message.end()));
  if (fields > limits.header_fields)
    return refuse(431, fmt::format("{} header fields, at most {}", fields, limits.header_fields));
  const std::string target = text(message.target());
  const std::string_view local = without_authority(target);
  const std::size_t question = local.find('?');
  if (question != std::string::npos) query = local.substr(question + 1);
  std::optional<std::string> decoded = percent_decode(local.substr(0, question));
  if (!decoded) return refuse(400, "the target has a % that two hexadecimal digits do not follow");
  path = decoded->empty() ? "/" : std::move(*decoded);
  if (message.count(http::field::host) > 1) return refuse(400, "more than one Host header");
  if (message.version() >= 11 && message.count(http::field::host) == 0)
    return refuse(400, "the Host header is missing");
  const auto encoding = message[http::field::transfer_encoding];
  if (!encoding.empty() &&
      (!equals(encoding, "chunked") || message.count(http::field::transfer_encoding) > 1))
    return refuse(501, "a Transfer-Encoding other than chunked");
  const auto content = message[http::field::content_encoding];
  if (!content.empty() && !equals(content, "identity"))
    return refuse(415,
                  fmt::format("Content-Encoding {} is not supported: send the body as it is", text(content)));
  const auto expect = message[http::field::expect];
  if (!expect.empty() && !equals(expect, "100-continue"))
    return refuse(417, "an Expect other than 100-continue");
}

RequestParser::RequestParser(const HttpLimits& limits) : impl_(std::make_unique<Impl>(limits)) {}
RequestParser::~RequestParser() = default;
RequestParser::RequestParser(RequestParser&&) noexcept = default;
RequestParser& RequestParser::operator=(RequestParser&&) noexcept = default;

std::size_t RequestParser::feed(std::string_view bytes) {
  std::size_t taken = 0;
  while (!impl_->refusal && !impl_->parser.is_done() && taken < bytes.size()) {
    if (impl_->checked && impl_->parser.chunked() && last_chunk_alone(bytes.substr(taken))) break;
    // Header first, so that it is judged before any of the body is taken.
    impl_->parser.eager(impl_->checked);
    boost::system::error_code error;
    const std::size_t count =
        impl_->parser.put(boost::asio::buffer(bytes.data() + taken, bytes.size() - taken), error);
    taken += count;
    if (!impl_->checked && impl_->parser.is_header_done()) impl_->check_header();
    if (error == http::error::need_more) {
      // The parser counts the header only once it is whole.
      if (bytes.size() - taken > impl_->limits.header_bytes && !impl_->checked)
        impl_->refuse(http::make_error_code(http::error::header_limit));
      else if (bytes.size() - taken > impl_->limits.header_bytes && count == 0)
        impl_->refuse(400,
                      fmt::format("a chunk's header has more than {} bytes", impl_->limits.header_bytes));
      if (count == 0) break;
    } else if (error && !impl_->refusal) {
      impl_->refuse(error);
    }
    if (!error && count == 0 && impl_->checked) break;
  }
  return taken;
}

bool RequestParser::header_done() const { return impl_->checked; }
bool RequestParser::done() const { return impl_->checked && !impl_->refusal && impl_->parser.is_done(); }
const std::optional<Response>& RequestParser::refusal() const { return impl_->refusal; }

bool RequestParser::expects_continue() const {
  return impl_->checked && !impl_->parser.get()[http::field::expect].empty();
}

std::size_t RequestParser::body_bytes() const {
  const auto announced = impl_->parser.content_length();
  const std::size_t held = impl_->parser.get().body().size();
  return announced ? std::max(held, static_cast<std::size_t>(*announced)) : held;
}

Request RequestParser::take() {
  auto message = impl_->parser.release();
  Request request;
  request.method = text(message.method_string());
  request.path = std::move(impl_->path);
  request.query = std::move(impl_->query);
  for (const auto& field : message)
    request.headers.push_back({text(field.name_string()), text(field.value())});
  request.keep_alive = message.keep_alive();
  request.chunked_answers = message.version() >= 11;
  request.body = std::move(message.body());
  return request;
}

}  // namespace sabrewing::server
