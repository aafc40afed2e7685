#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "text/byte_level.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace sabrewing::text {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{1} << 28;
constexpr std::int64_t kMaxTokens = 1 << 21;
constexpr std::size_t kMaxAddedTokenBytes = 1024;
constexpr std::size_t kMaxSteps = 64;  // of one kind of component

/// A value inside the file with its path for messages.
class Field {
 public:
  Field(const Json& value, std::string path, std::string_view what)
      : value_(&value), path_(std::move(path)), what_(what) {}

  template <typename... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::kCorrupt, "[tokenizer] {}: {}", location(),
         fmt::vformat(format, fmt::make_format_args(args...)));
  }
  template <typename... Args>
  [[noreturn]] void unsupported(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::kUnsupported, "[tokenizer] {} {}", location(),
         fmt::vformat(format, fmt::make_format_args(args...)));
  }
  [[noreturn]] void unsupported_type(std::string_view supported) const {
    unsupported("type \"{}\" is not supported; supported: {}", one_line((*this)["type"].string()), supported);
  }
  /// "file: path", for errors that come later.
  std::string location() const {
    return path_.empty() ? std::string(what_) : fmt::format("{}: {}", what_, path_);
  }

  const Json& json() const { return *value_; }
  bool is_null() const { return value_->is_null(); }

  Field operator[](std::string_view key) const {
    auto found = find(key);
    if (!found) corrupt("\"{}\" is missing", key);
    return std::move(*found);
  }
  std::optional<Field> find(std::string_view key) const {
    if (!value_->is_object()) corrupt("expected an object, found {}", value_->type_name());
    const auto found = value_->find(key);
    if (found == value_->end()) return std::nullopt;
    return Field(*found, path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key), what_);
  }
  /// Present and not null.
  std::optional<Field> find_value(std::string_view key) const {
    auto found = find(key);
    if (found && found->is_null()) return std::nullopt;
    return found;
  }
  std::size_t size() const {
    if (!value_->is_array()) corrupt("expected an array, found {}", value_->type_name());
    return value_->size();
  }
  Field at(std::size_t index) const { return {(*value_)[index], fmt::format("{}[{}]", path_, index), what_}; }

  const std::string& string() const {
    if (!value_->is_string()) corrupt("expected a string, found {}", value_->type_name());
    return value_->get_ref<const std::string&>();
  }
  bool boolean() const {
    if (!value_->is_boolean()) corrupt("expected true or false, found {}", value_->type_name());
    return value_->get<bool>();
  }
  std::int32_t id() const { return id_of(*value_); }
  /// The same for `value`, part of this field.
  std::int32_t id_of(const Json& value) const {
    if (!value.is_number_integer()) corrupt("expected a token id, found {}", value.type_name());
    const bool fits = value.is_number_unsigned()
                          ? value.get<std::uint64_t>() < static_cast<std::uint64_t>(kMaxTokens)
                          : value.get<std::int64_t>() >= 0;
    if (!fits) corrupt("token id {} is not in [0, {})", value.dump(), kMaxTokens);
    return value.get<std::int32_t>();
  }

 private:
  const Json* value_;
  std::string path_;
  std::string_view what_;
};

bool is_type(const Field& component, std::string_view type) { return component["type"].string() == type; }

/// The leaves of a component that may be a `Sequence`, in order.
void flatten(const Field& component, std::string_view list, std::vector<Field>& leaves) {
  if (!is_type(component, "Sequence")) {
    leaves.push_back(component);
    if (leaves.size() > kMaxSteps) component.corrupt("more than {} steps", kMaxSteps);
    return;
  }
  const Field steps = component[list];
  for (std::size_t i = 0; i < steps.size(); ++i) flatten(steps.at(i), list, leaves);
}

std::vector<Field> leaves_of(const std::optional<Field>& component, std::string_view list) {
  std::vector<Field> leaves;
  if (component) flatten(*component, list, leaves);
  return leaves;
}

std::variant<Regex, std::string> read_pattern(const Field& pattern) {
  if (const auto regex = pattern.find("Regex")) return Regex(regex->string(), regex->location());
  const auto fixed = pattern.find("String");
  if (!fixed) pattern.corrupt("expected {{\"Regex\": ...}} or {{\"String\": ...}}");
  if (fixed->string().empty()) fixed->unsupported("is empty");
  return fixed->string();
}

Split read_split(const Field& field) {
  static constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kBehaviors = {
      {{"Removed", SplitBehavior::kRemoved},
       {"Isolated", SplitBehavior::kIsolated},
       {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
       {"MergedWithNext", SplitBehavior::kMergedWithNext},
       {"Contiguous", SplitBehavior::kContiguous}}};
  const Field behavior = field["behavior"];
  const auto known = std::find_if(kBehaviors.begin(), kBehaviors.end(),
                                  [&](const auto& entry) { return entry.first == behavior.string(); });
  if (known == kBehaviors.end())
    behavior.corrupt("\"{}\" is no behavior of Split", one_line(behavior.string()));
  return {read_pattern(field["pattern"]), known->second, field["invert"].boolean()};
}

Pretokenizer read_pretokenizer(const Field& root) {
  const auto steps = leaves_of(root.find_value("pre_tokenizer"), "pretokenizers");
  std::vector<Split> splits;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const Field& step = steps[i];
    if (is_type(step, "Split")) {
      splits.push_back(read_split(step));
    } else if (is_type(step, "Digits")) {
      const bool single = step["individual_digits"].boolean();
      splits.emplace_back(Regex("\\p{N}", step.location()),
                          single ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false);
    } else if (is_type(step, "ByteLevel")) {
      if (i + 1 != steps.size()) step.unsupported("must be the last step");
      const auto use_regex = step.find("use_regex");
      return {std::move(splits), step["add_prefix_space"].boolean(), !use_regex || use_regex->boolean()};
    } else {
      step.unsupported_type("ByteLevel, Digits, Sequence, Split");
    }
  }
  root.unsupported("pre_tokenizer without a ByteLevel step is not supported");
}

Normalizer read_normalizer(const Field& root) {
  static constexpr std::array<std::pair<std::string_view, UnicodeForm>, 4> kForms = {
      {{"NFC", UnicodeForm::kNfc},
       {"NFD", UnicodeForm::kNfd},
       {"NFKC", UnicodeForm::kNfkc},
       {"NFKD", UnicodeForm::kNfkd}}};
  std::vector<Normalizer::Step> steps;
  for (const Field& step : leaves_of(root.find_value("normalizer"), "normalizers")) {
    const auto form = std::find_if(kForms.begin(), kForms.end(),
                                   [&](const auto& entry) { return is_type(step, entry.first); });
    if (form != kForms.end()) {
      steps.emplace_back(form->second);
    } else if (is_type(step, "Lowercase")) {
      steps.emplace_back(Lowercase{});
    } else if (is_type(step, "Prepend")) {
      steps.emplace_back(Prepend{step["prepend"].string()});
    } else if (is_type(step, "Replace")) {
      steps.emplace_back(Replace{read_pattern(step["pattern"]), step["content"].string()});
    } else {
      step.unsupported_type("Lowercase, NFC, NFD, NFKC, NFKD, Prepend, Replace, Sequence");
    }
  }
  return Normalizer(std::move(steps));
}

void check_decoder(const Field& root) {
  const auto steps = leaves_of(root.find_value("decoder"), "decoders");
  for (const Field& step : steps) {
    if (!is_type(step, "ByteLevel")) step.unsupported_type("ByteLevel, Sequence");
  }
  if (steps.size() != 1) root.unsupported("decoder must be one ByteLevel step, found {} steps", steps.size());
}

}  // namespace

class TokenizerLoader {
 public:
  TokenizerLoader(const Json& json, std::string_view what) : root_(json, "", what) {}

  Tokenizer load() {
    if (!root_.json().is_object()) root_.corrupt("expected an object, found {}", root_.json().type_name());
    const auto version = root_.find("version");
    if (version && version->string() != "1.0")
      version->unsupported("\"{}\" is not 1.0", one_line(version->string()));
    for (const std::string_view key : {"truncation", "padding"}) {
      if (const auto field = root_.find_value(key)) field->unsupported("is not supported; supported: null");
    }
    Normalizer normalizer = read_normalizer(root_);
    Pretokenizer pretokenizer = read_pretokenizer(root_);
    check_decoder(root_);
    const Field model = root_["model"];
    const bool ignore_merges = read_model_flags(model);
    const Field merges = model["merges"];
    Bpe bpe(read_vocab(model["vocab"]), ignore_merges, merges.size());
    read_merges(merges, bpe);
    read_added_tokens(normalizer, bpe);
    read_post_processor();
    return Tokenizer(std::make_shared<const Tokenizer::Impl>(
        Tokenizer::Impl{std::move(tokens_), std::move(names_), AddedTokenMatcher(std::move(raw_added_)),
                        AddedTokenMatcher(std::move(normalized_added_)), std::move(normalizer),
                        std::move(pretokenizer), std::move(bpe), std::move(prefix_), std::move(suffix_)}));
  }

 private:
  using Token = Tokenizer::Impl::Token;

  static bool read_model_flags(const Field& model) {
    const auto type = model.find("type");
    if (type && type->string() != "BPE") model.unsupported_type("BPE");
    // With a token for every byte nothing is ever unknown: unk_token, fuse_unk and byte_fallback change
    // nothing.
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const auto field = model.find_value(key);
      if (field && !field->string().empty())
        field->unsupported("\"{}\" is not supported", one_line(field->string()));
    }
    if (const auto dropout = model.find_value("dropout")) {
      if (!dropout->json().is_number())
        dropout->corrupt("expected a number, found {}", dropout->json().type_name());
      if (dropout->json().get<double>() != 0) dropout->unsupported("other than 0 is not supported");
    }
    const auto ignore_merges = model.find_value("ignore_merges");
    return ignore_merges && ignore_merges->boolean();
  }

  /// Makes room for `id`; false when it is taken.
  bool claim(std::int32_t id, std::string bytes) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= tokens_.size()) tokens_.resize(index + 1);
    if (tokens_[index].present) return false;
    tokens_[index] = {std::move(bytes), true, false};
    return true;
  }

  StringMap<std::int32_t> read_vocab(const Field& vocab) {
    if (!vocab.json().is_object()) vocab.corrupt("expected an object, found {}", vocab.json().type_name());
    StringMap<std::int32_t> ids;
    ids.reserve(vocab.json().size());
    for (const auto& [text, value] : vocab.json().items()) {
      const std::int32_t id = vocab.id_of(value);
      auto bytes = from_byte_level(text);
      if (!claim(id, bytes ? *bytes : text))
        vocab.corrupt("token id {} occurs twice, also for \"{}\"", id, one_line(text));
      if (bytes) {
        ids.emplace(std::move(*bytes), id);
      } else {
        names_.emplace(text, id);
      }
    }
    vocab_entries_ = vocab.json().size();
    for (unsigned byte = 0; byte <= 0xF4; ++byte) {
      const std::string text(1, static_cast<char>(byte));
      if (byte != 0xC0 && byte != 0xC1 && ids.find(text) == ids.end()) {
        vocab.unsupported("without a token for byte 0x{:02x} is not supported", byte);
      }
    }
    return ids;
  }

  void read_merges(const Field& merges, Bpe& bpe) const {
    const std::size_t count = merges.size();
    const bool pairs = count > 0 && merges.json()[0].is_array();
    for (std::size_t i = 0; i < count; ++i) {
      const Json& entry = merges.json()[i];
      std::string_view left;
      std::string_view right;
      if (pairs) {
        if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_string()) {
          merges.at(i).corrupt("expected a pair of strings");
        }
        left = entry[0].get_ref<const std::string&>();
        right = entry[1].get_ref<const std::string&>();
      } else {
        const std::string_view line = merges.at(i).string();
        if (line.starts_with("#version")) continue;
        const std::size_t space = line.find(' ');
        if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
          merges.at(i).corrupt("expected two tokens with one space between, found \"{}\"", one_line(line));
        }
        left = line.substr(0, space);
        right = line.substr(space + 1);
      }
      std::string merged(left);
      merged += right;
      const auto find = [&](std::string_view text) {
        const auto id = find_vocab(text, bpe);
        if (!id) merges.at(i).corrupt("\"{}\" is not in the vocabulary", one_line(text));
        return *id;
      };
      const std::int32_t left_id = find(left);
      const std::int32_t right_id = find(right);
      bpe.add_merge(left_id, right_id, find(merged));
    }
  }

  std::optional<std::int32_t> find_vocab(std::string_view text, const Bpe& bpe) const {
    if (const auto bytes = from_byte_level(text)) return bpe.find(*bytes);
    const auto named = names_.find(text);
    return named == names_.end() ? std::nullopt : std::optional(named->second);
  }

  void read_added_tokens(const Normalizer& normalizer, const Bpe& bpe) {
    const auto list = root_.find_value("added_tokens");
    if (!list) return;
    SearchBudget budget(list->size() * kMaxAddedTokenBytes);
    StringMap<bool> special_contents;
    StringMap<std::int32_t> texts[2];
    auto next_id = static_cast<std::int32_t>(vocab_entries_);
    for (std::size_t i = 0; i < list->size(); ++i) {
      const Field field = list->at(i);
      AddedToken token;
      token.id = field["id"].id();
      token.content = field["content"].string();
      token.single_word = field["single_word"].boolean();
      token.lstrip = field["lstrip"].boolean();
      token.rstrip = field["rstrip"].boolean();
      token.normalized = field["normalized"].boolean();
      token.special = field["special"].boolean();
      if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes) {
        field["content"].corrupt("{} bytes long, expected 1 to {}", token.content.size(),
                                 kMaxAddedTokenBytes);
      }

      // An id that differs from the vocabulary's, or that leaves a hole, is not the id that the text gets.
      const auto in_vocab = find_vocab(token.content, bpe);
      const std::int32_t expected = in_vocab ? *in_vocab : next_id++;
      if (token.id != expected) {
        field["id"].corrupt("{} for \"{}\", expected {}", token.id, one_line(token.content), expected);
      }
      std::string text = token.normalized ? normalizer.apply(token.content, budget) : token.content;
      if (text.empty())
        field["content"].corrupt("nothing is left of \"{}\" after normalization", one_line(token.content));
      if (text.size() > kMaxAddedTokenBytes)
        field["content"].corrupt("longer than {} bytes after normalization", kMaxAddedTokenBytes);
      if (!in_vocab && !claim(token.id, "")) field["id"].corrupt("token id {} occurs twice", token.id);
      if (!texts[token.normalized].emplace(text, token.id).second || !added_ids_.insert(token.id).second) {
        field["content"].corrupt("\"{}\" occurs twice", one_line(token.content));
      }
      if (token.special) special_contents.emplace(token.content, true);
      names_.emplace(token.content, token.id);
      auto& entries = token.normalized ? normalized_added_ : raw_added_;
      entries.push_back({std::move(token), std::move(text)});
    }
    for (const auto* entries : {&raw_added_, &normalized_added_}) {
      for (const auto& [token, text] : *entries) {
        Token& target = tokens_[static_cast<std::size_t>(token.id)];
        target.bytes = from_byte_level(text).value_or(text);
        target.special = special_contents.find(text) != special_contents.end();
      }
    }
  }

  void read_post_processor() {
    const auto steps = leaves_of(root_.find_value("post_processor"), "processors");
    bool have_template = false;
    for (const Field& step : steps) {
      if (is_type(step, "ByteLevel")) continue;  // moves offsets only
      if (!is_type(step, "TemplateProcessing"))
        step.unsupported_type("ByteLevel, Sequence, TemplateProcessing");
      if (have_template) step.unsupported("after another TemplateProcessing is not supported");
      have_template = true;
      read_template(step);
    }
  }

  void read_template(const Field& step) {
    const Field pieces = step["single"];
    bool text_seen = false;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const Field piece = pieces.at(i);
      if (const auto sequence = piece.find("Sequence")) {
        if (text_seen || (*sequence)["id"].string() != "A") piece.unsupported("must be the only text, \"A\"");
        text_seen = true;
        continue;
      }
      const Field special = piece["SpecialToken"];
      const Field ids = step["special_tokens"][special["id"].string()]["ids"];
      for (std::size_t k = 0; k < ids.size(); ++k) {
        const std::int32_t id = ids.at(k).id();
        if (static_cast<std::size_t>(id) >= tokens_.size() ||
            !tokens_[static_cast<std::size_t>(id)].present) {
          ids.at(k).corrupt("no token has id {}", id);
        }
        (text_seen ? suffix_ : prefix_).push_back(id);
      }
    }
    if (!text_seen) pieces.unsupported("without the text itself is not supported");
  }

  Field root_;
  std::vector<Token> tokens_;
  StringMap<std::int32_t> names_;
  std::size_t vocab_entries_ = 0;
  std::unordered_set<std::int32_t> added_ids_;
  std::vector<AddedTokenMatcher::Entry> raw_added_;
  std::vector<AddedTokenMatcher::Entry> normalized_added_;
  std::vector<std::int32_t> prefix_;
  std::vector<std::int32_t> suffix_;
};

Tokenizer Tokenizer::from_json(std::string_view json, std::string_view what) {
  const Json parsed = parse_json(json, what);
  return TokenizerLoader(parsed, what).load();
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  return from_json(read_text_file(path, kMaxFileBytes), path.string());
}

}  // namespace sabrewing::text
