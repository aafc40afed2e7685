#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "core/error.h"

namespace sabrewing::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void check_range(const char* field, double value, double low, double high) {
  SABREWING_CHECK(value >= low && value <= high, kInvalidArgument, "[sampling] {} is {}: {} to {} expected",
                  field, value, low, high);
}

void check_id(const char* field, std::int64_t id, std::int64_t vocabulary) {
  SABREWING_CHECK(id >= 0 && id < vocabulary, kInvalidArgument,
                  "[sampling] {} holds token id {}: 0 to {} expected", field, id, vocabulary - 1);
}

bool likelier(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
}

std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

/// The lowest index of the largest value.
std::size_t checked_argmax(std::span<const float> logits) {
  std::size_t best = 0;
  bool nan = false;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    nan |= std::isnan(logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  if (nan) {
    const auto at = std::find_if(logits.begin(), logits.end(), [](float x) { return std::isnan(x); });
    fail(ErrorCode::kCorrupt, "[sampling] the logit of token {} is NaN", at - logits.begin());
  }
  SABREWING_CHECK(logits[best] != -kInfinity, kCorrupt, "[sampling] every logit is -infinity");
  SABREWING_CHECK(logits[best] != kInfinity, kCorrupt, "[sampling] the logit of token {} is infinite", best);
  return best;
}

}  // namespace

void SamplingParams::validate() const {
  constexpr double kLargest = std::numeric_limits<double>::max();
  SABREWING_CHECK(temperature >= 0 && std::isfinite(temperature), kInvalidArgument,
                  "[sampling] temperature is {}: a finite number of at least 0 expected", temperature);
  SABREWING_CHECK(top_k >= -1, kInvalidArgument,
                  "[sampling] top_k is {}: at least 1, or 0 or -1 for all, expected", top_k);
  SABREWING_CHECK(top_p > 0 && top_p <= 1, kInvalidArgument,
                  "[sampling] top_p is {}: above 0 and at most 1 expected", top_p);
  check_range("min_p", min_p, 0, 1);
  SABREWING_CHECK(repetition_penalty > 0 && repetition_penalty <= kLargest, kInvalidArgument,
                  "[sampling] repetition_penalty is {}: a finite number above 0 expected",
                  repetition_penalty);
  check_range("presence_penalty", presence_penalty, -2, 2);
  check_range("frequency_penalty", frequency_penalty, -2, 2);
  for (const auto& [id, bias] : logit_bias) check_range("logit_bias", bias, -100, 100);
  SABREWING_CHECK(!logprobs.has_value() || *logprobs >= 0, kInvalidArgument,
                  "[sampling] logprobs is {}: at least 0 expected", *logprobs);
  for (const std::string& text : stop)
    SABREWING_CHECK(!text.empty(), kInvalidArgument, "[sampling] stop holds an empty string");
  for (const std::vector<std::int32_t>& word : bad_words)
    SABREWING_CHECK(!word.empty(), kInvalidArgument, "[sampling] bad_words holds an empty sequence");
  SABREWING_CHECK(max_tokens >= 1, kInvalidArgument, "[sampling] max_tokens is {}: at least 1 expected",
                  max_tokens);
  SABREWING_CHECK(min_tokens >= 0 && min_tokens <= max_tokens, kInvalidArgument,
                  "[sampling] min_tokens is {}: 0 to max_tokens ({}) expected", min_tokens, max_tokens);
}

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t second = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<std::uint32_t>(second >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(second),
        static_cast<std::uint32_t>(first >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(first)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

TokenLogprobs token_logprobs(std::span<const float> logits, std::int32_t chosen, std::int64_t top) {
  const auto vocabulary = static_cast<std::int64_t>(logits.size());
  const float maximum = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - maximum);
  const double log_sum = std::log(sum) + maximum;
  const auto entry = [&](std::int32_t id) {
    return TokenLogprob{id, static_cast<float>(logits[static_cast<std::size_t>(id)] - log_sum)};
  };
  TokenLogprobs result;
  result.chosen = entry(chosen);
  const auto count = static_cast<std::size_t>(std::min(top, vocabulary));
  if (count == 0) return result;
  // A heap of the best so far, the worst of them in front.
  const auto better = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)];
    const float y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::vector<std::int32_t> best;
  for (std::int32_t id = 0; id < vocabulary; ++id) {
    if (best.size() == count) {
      if (!better(id, best.front())) continue;
      std::pop_heap(best.begin(), best.end(), better);
      best.pop_back();
    }
    best.push_back(id);
    std::push_heap(best.begin(), best.end(), better);
  }
  std::sort_heap(best.begin(), best.end(), better);
  for (const std::int32_t id : best) result.top.push_back(entry(id));
  return result;
}

Sampler::Sampler(const SamplingParams& params, std::int64_t vocabulary, std::span<const std::int32_t> end_ids)
    : params_(params), vocabulary_(vocabulary), seed_(params.seed ? *params.seed : random_seed()) {
  params_.validate();
  SABREWING_CHECK(vocabulary >= 1, kInvalidArgument, "[sampling] the vocabulary has {} tokens", vocabulary);
  for (const std::int32_t id : params_.stop_token_ids) check_id("stop_token_ids", id, vocabulary);
  for (const auto& [id, bias] : params_.logit_bias) check_id("logit_bias", id, vocabulary);
  for (const std::vector<std::int32_t>& word : params_.bad_words) {
    for (const std::int32_t id : word) check_id("bad_words", id, vocabulary);
    longest_bad_word_ = std::max(longest_bad_word_, word.size());
  }
  if (!params_.allowed_token_ids.empty()) allowed_.resize(static_cast<std::size_t>(vocabulary));
  for (const std::int32_t id : params_.allowed_token_ids) {
    check_id("allowed_token_ids", id, vocabulary);
    allowed_[static_cast<std::size_t>(id)] = true;
  }
  suppressed_ = params_.stop_token_ids;
  for (const std::int32_t id : end_ids) {
    check_id("end_ids", id, vocabulary);
    suppressed_.push_back(id);
  }
  if (params_.repetition_penalty != 1) is_seen_.resize(static_cast<std::size_t>(vocabulary));
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0)
    answer_counts_.resize(static_cast<std::size_t>(vocabulary));
}

void Sampler::add_prompt(std::span<const std::int32_t> ids) {
  for (const std::int32_t id : ids) {
    check_id("the prompt", id, vocabulary_);
    const auto at = static_cast<std::size_t>(id);
    if (is_seen_.empty() || is_seen_[at]) continue;
    is_seen_[at] = true;
    seen_.push_back(id);
  }
}

SampledToken Sampler::sample(std::span<const float> logits, std::span<const std::uint32_t> allowed) {
  SampledToken token;
  if (params_.temperature == 0) {
    token.id = static_cast<std::int32_t>(checked_argmax(adjust(logits, allowed)));
  } else {
    candidates(logits, allowed);
    double total = 0;
    for (const Candidate& candidate : candidates_) total += candidate.weight;
    // The last candidate takes what rounding leaves over.
    double left = uniform() * total;
    std::size_t chosen = 0;
    while (chosen + 1 < candidates_.size() && left >= candidates_[chosen].weight)
      left -= candidates_[chosen++].weight;
    token.id = candidates_[chosen].id;
  }
  if (params_.logprobs) token.logprobs = token_logprobs(logits, token.id, *params_.logprobs);
  ++generated_;
  if (longest_bad_word_ > 1) {
    if (tail_.size() + 1 == longest_bad_word_) tail_.erase(tail_.begin());
    tail_.push_back(token.id);
  }
  add_prompt({&token.id, 1});
  if (!answer_counts_.empty() && answer_counts_[static_cast<std::size_t>(token.id)]++ == 0)
    answered_.push_back(token.id);
  return token;
}

std::span<const Candidate> Sampler::candidates(std::span<const float> logits,
                                               std::span<const std::uint32_t> allowed) {
  logits = adjust(logits, allowed);
  const float maximum = logits[checked_argmax(logits)];
  candidates_.clear();
  const std::size_t size = logits.size();
  if (params_.top_k > 0 && params_.top_k < vocabulary_) {
    keep_top_k(logits);
  } else {
    candidates_.resize(size);
    for (std::size_t i = 0; i < size; ++i) candidates_[i] = {static_cast<std::int32_t>(i), logits[i]};
  }
  const double scale = params_.temperature > 0 ? 1 / params_.temperature : kInfinity;
  double total = 0;
  for (Candidate& candidate : candidates_) {
    const double difference = static_cast<double>(candidate.weight) - static_cast<double>(maximum);
    candidate.weight = difference == 0 ? 1.0f : std::exp(static_cast<float>(difference * scale));
    total += candidate.weight;
  }
  if (params_.top_p < 1) keep_top_p(total);
  const auto least = static_cast<float>(params_.min_p);
  std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < least || c.weight == 0; });
  return candidates_;
}

std::span<const float> Sampler::adjust(std::span<const float> logits,
                                       std::span<const std::uint32_t> allowed) {
  SABREWING_CHECK(static_cast<std::int64_t>(logits.size()) == vocabulary_, kInvalidArgument,
                  "[sampling] {} logits for a vocabulary of {}", logits.size(), vocabulary_);
  const bool suppress = generated_ < params_.min_tokens && !suppressed_.empty();
  SABREWING_CHECK(allowed.empty() || allowed.size() * 32 >= logits.size(), kInvalidArgument,
                  "[sampling] {} words of allowed tokens for a vocabulary of {}", allowed.size(),
                  vocabulary_);
  if (params_.logit_bias.empty() && !suppress && allowed.empty() && allowed_.empty() &&
      longest_bad_word_ == 0 && seen_.empty() && answered_.empty())
    return logits;
  adjusted_.assign(logits.begin(), logits.end());
  const auto at = [&](std::int32_t id) -> float& { return adjusted_[static_cast<std::size_t>(id)]; };
  for (const auto& [id, bias] : params_.logit_bias) at(id) += static_cast<float>(bias);
  if (suppress)
    for (const std::int32_t id : suppressed_) at(id) = -kInfinity;
  if (!allowed.empty())
    for (std::size_t id = 0; id < adjusted_.size(); ++id)
      if ((allowed[id / 32] >> (id % 32) & 1) == 0) adjusted_[id] = -kInfinity;
  for (std::size_t id = 0; id < allowed_.size(); ++id)
    if (!allowed_[id]) adjusted_[id] = -kInfinity;
  forbid_bad_words();
  const auto repetition = static_cast<float>(params_.repetition_penalty);
  for (const std::int32_t id : seen_) at(id) = at(id) < 0 ? at(id) * repetition : at(id) / repetition;
  for (const std::int32_t id : answered_) {
    at(id) -= static_cast<float>(params_.frequency_penalty) *
              static_cast<float>(answer_counts_[static_cast<std::size_t>(id)]);
    at(id) -= static_cast<float>(params_.presence_penalty);
  }
  return adjusted_;
}

/// The last id of every bad word whose other ids end the answer.
void Sampler::forbid_bad_words() {
  for (const std::vector<std::int32_t>& word : params_.bad_words) {
    const std::size_t before = word.size() - 1;
    if (before > tail_.size() ||
        !std::equal(word.begin(), word.end() - 1, tail_.end() - static_cast<std::ptrdiff_t>(before)))
      continue;
    adjusted_[static_cast<std::size_t>(word.back())] = -kInfinity;
  }
}

/// Candidates whose logit is at least the k-th largest; their weights are logits yet.
void Sampler::keep_top_k(std::span<const float> logits) {
  const auto k = static_cast<std::size_t>(params_.top_k);
  heap_.assign(logits.begin(), logits.begin() + params_.top_k);
  std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  for (std::size_t i = k; i < logits.size(); ++i) {
    if (logits[i] <= heap_.front()) continue;
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    heap_.back() = logits[i];
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (logits[i] >= heap_.front()) candidates_.push_back({static_cast<std::int32_t>(i), logits[i]});
}

/// Keeps the likeliest candidates until their weights reach top_p of `total`. Only those that can be among
/// them are sorted: the bound on the weight falls until enough lies above it.
void Sampler::keep_top_p(double total) {
  const double wanted = params_.top_p * total;
  auto end = candidates_.begin();
  double reached = 0;
  for (float bound = 0.125f; end != candidates_.end() && reached < wanted; bound *= bound) {
    const auto begin = end;
    end = std::partition(begin, candidates_.end(),
                         [&](const Candidate& c) { return c.weight > bound || bound == 0; });
    for (auto c = begin; c != end; ++c) reached += c->weight;
  }
  std::sort(candidates_.begin(), end, likelier);
  double before = 0;
  auto kept = candidates_.begin();
  for (; kept != end && before < wanted; ++kept) before += kept->weight;
  candidates_.erase(kept, candidates_.end());
}

/// [0, 1) in steps of 2^-53.
double Sampler::uniform() const {
  const auto index = static_cast<std::uint64_t>(generated_);
  const auto words =
      philox({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), 0, 0},
             {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
  return static_cast<double>((std::uint64_t{words[0]} << 32 | words[1]) >> 11) * 0x1p-53;
}

}  // namespace sabrewing::engine
