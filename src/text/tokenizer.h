#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sabrewing::text {

/// The byte-level BPE of a `tokenizer.json`, equal to the `tokenizers` library id for id. Components that
/// are not implemented are refused by name when it is loaded. Immutable and cheap to copy; threads may
/// share it.
class Tokenizer {
 public:
  /// Throws `Error`: `kNotFound` or `kIo` for the file, `kCorrupt` when it contradicts the format,
  /// `kUnsupported` for components that are not implemented. Messages name file and field.
  static Tokenizer from_file(const std::filesystem::path& path);
  /// The same from text; `what` names it in errors.
  static Tokenizer from_json(std::string_view json, std::string_view what);

  /// Ids of UTF-8 text. `add_special_tokens`: with what the post-processor adds, such as a start token.
  /// `parse_special`: special tokens written out in the text become their ids; otherwise they are
  /// ordinary text. Throws `Error{kInvalidArgument}` with the byte position of malformed UTF-8.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens = false,
                                   bool parse_special = true) const;

  /// Ids of UTF-8 text in which nothing is an added token, whatever it spells.
  std::vector<std::int32_t> encode_plain(std::string_view text) const;
  /// The ids with what the post-processor puts around those of a text.
  std::vector<std::int32_t> with_special_tokens(std::vector<std::int32_t> ids) const;

  /// A token of `tokenizer.json`'s `added_tokens` in a text, with the white space that it takes.
  struct AddedSpan {
    std::int32_t id;
    std::size_t begin;
    std::size_t end;
  };
  /// The added tokens that `encode` finds in the text, in order; those that are looked for in normalized text
  /// only where they stand as they are.
  std::vector<AddedSpan> added_tokens(std::string_view text) const;
  /// Where the text's end begins that more text could complete to an added token; its size when there is
  /// none.
  std::size_t unfinished_token(std::string_view text) const;

  /// Text of ids; malformed UTF-8 becomes U+FFFD. Throws `Error{kInvalidArgument}` for an id without a token.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const;

  /// The bytes that `id` contributes to decoded text; not always whole characters. Valid as long as the
  /// tokenizer. Throws `Error{kInvalidArgument}` for an id without a token.
  std::string_view token_bytes(std::int32_t id) const;

  /// Id of a token as `tokenizer.json` spells it: an added token's content or a byte-level vocabulary entry.
  std::optional<std::int32_t> token_id(std::string_view token) const;

  bool has_token(std::int32_t id) const;
  /// Whether `decode` leaves the token out when it skips special tokens. False for an id without a token.
  bool is_special(std::int32_t id) const;

  /// Largest id plus one. Vocabularies may have holes: see `has_token`.
  std::int32_t vocab_size() const;

 private:
  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  friend class TokenizerLoader;

  std::shared_ptr<const Impl> impl_;
};

}  // namespace sabrewing::text
