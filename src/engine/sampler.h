#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace sabrewing::engine {

/// How the next token of a request is chosen and when the answer ends. The defaults change nothing.
struct SamplingParams {
  double temperature = 1;  ///< finite, >= 0; 0 is greedy: the largest logit, ties to the lowest id
  std::int64_t top_k = 0;  ///< the k largest, and what ties with the last of them; 0 or -1: all
  double top_p = 1;        ///< (0, 1]: the fewest most probable tokens that together reach top_p
  double min_p = 0;        ///< [0, 1]: at least this fraction of the largest probability
  double repetition_penalty =
      1;                        ///< > 0: divides positive and multiplies negative logits of prompt and answer
  double presence_penalty = 0;  ///< [-2, 2]: subtracted from logits of tokens in the answer
  double frequency_penalty = 0;  ///< [-2, 2]: subtracted once per occurrence in the answer
  std::vector<std::pair<std::int32_t, double>> logit_bias;  ///< id and addend in [-100, 100]
  std::vector<std::vector<std::int32_t>> bad_words;         ///< sequences of ids that the answer may not hold
  std::vector<std::int32_t> allowed_token_ids;              ///< only these may be chosen; empty: all
  std::optional<std::uint64_t> seed;  ///< equal seeds give equal ids; none: a random one
  std::optional<std::int64_t>
      logprobs;                   ///< set: report the token's log-probability and those of the n likeliest
  std::vector<std::string> stop;  ///< strings that end the answer and are not part of it
  std::vector<std::int32_t> stop_token_ids;
  std::int64_t max_tokens = std::numeric_limits<std::int64_t>::max();  ///< >= 1
  std::int64_t min_tokens = 0;  ///< no end or stop token before so many
  bool ignore_eos = false;

  /// Throws `Error{kInvalidArgument}` naming the field, its value and what is allowed.
  void validate() const;
};

struct TokenLogprob {
  std::int32_t id = 0;
  float logprob = 0;
};

/// Logarithms of the model's own probabilities: log-softmax of the logits before bias, penalties,
/// temperature and filters.
struct TokenLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  ///< the likeliest, descending, ties by id
};

/// Of a softmax over `logits`: the log-probability of `chosen` and those of the `top` likeliest.
TokenLogprobs token_logprobs(std::span<const float> logits, std::int32_t chosen, std::int64_t top);

struct SampledToken {
  std::int32_t id = 0;
  TokenLogprobs logprobs;  ///< empty unless asked for
};

/// A token that passed every filter.
struct Candidate {
  std::int32_t id = 0;
  float weight = 0;  ///< probability relative to the likeliest token, (0, 1]
};

/// Philox4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011).
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

/// Chooses the tokens of one request. In this order, as transformers has it: bias, suppressed end tokens,
/// tokens not allowed, bad words, repetition, frequency and presence penalty, temperature, top-k, top-p,
/// min-p. The n-th token depends on the logits, the parameters, the history and (seed, n) only: not on other
/// requests.
class Sampler {
 public:
  /// `end_ids` are suppressed together with the stop ids until `min_tokens`. Throws what
  /// `params.validate` throws, and `kInvalidArgument` for ids outside the vocabulary.
  Sampler(const SamplingParams& params, std::int64_t vocabulary, std::span<const std::int32_t> end_ids = {});

  /// Counts for the repetition penalty.
  void add_prompt(std::span<const std::int32_t> ids);

  /// Chooses the next token from `logits` (vocabulary) and records it. Throws `Error{kCorrupt}` when a
  /// logit is NaN or +infinity, or when all are -infinity (after suppression and bias, too). With `allowed`,
  /// bit t % 32 of word t / 32 says whether token t may be chosen.
  SampledToken sample(std::span<const float> logits, std::span<const std::uint32_t> allowed = {});

  /// What `sample` would draw from with a temperature above 0; for inspection. Valid until the next call.
  std::span<const Candidate> candidates(std::span<const float> logits,
                                        std::span<const std::uint32_t> allowed = {});

 private:
  std::span<const float> adjust(std::span<const float> logits, std::span<const std::uint32_t> allowed);
  void forbid_bad_words();
  void keep_top_k(std::span<const float> logits);
  void keep_top_p(double total);
  double uniform() const;

  SamplingParams params_;
  std::int64_t vocabulary_;
  std::uint64_t seed_;
  std::vector<std::int32_t> suppressed_;
  std::vector<bool> allowed_;  ///< by `allowed_token_ids`; empty: all
  std::size_t longest_bad_word_ = 0;
  std::int64_t generated_ = 0;
  std::vector<std::int32_t> tail_;  ///< the end of the answer, as long as bad words can tell
  // History, kept only for the penalties that are on: what occurred, and how often in the answer.
  std::vector<std::int32_t> seen_;
  std::vector<bool> is_seen_;
  std::vector<std::int32_t> answered_;
  std::vector<std::int32_t> answer_counts_;
  // Scratch.
  std::vector<float> adjusted_;
  std::vector<float> heap_;
  std::vector<Candidate> candidates_;
};

}  // namespace sabrewing::engine
