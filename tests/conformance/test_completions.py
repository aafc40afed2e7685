"""/v1/completions through the openai package."""
import numpy
import openai
import pytest

from conftest import reference


def create(server, prompt, **arguments):
    arguments.setdefault("temperature", 0)
    arguments.setdefault("max_tokens", 200)
    return server.openai.completions.create(model=server.model, prompt=prompt, **arguments)


def text_of(case):
    return case["greedy_text"].removesuffix("<|im_end|>").removesuffix("<|return|>")


@pytest.mark.parametrize("model", ["qwen", "moe", "gpt_oss"])
def test_ids_give_the_reference_ids(request, model):
    server = request.getfixturevalue(model)
    for case in reference(server.model)[:3]:
        answer = create(server, case["prompt_ids"], extra_body={"skip_special_tokens": False, "return_token_ids": True})
        choice = answer.choices[0]
        assert choice.token_ids == case["greedy_ids"]
        assert choice.text.removesuffix("<|im_end|>").removesuffix("<|return|>") == text_of(case)
        assert choice.finish_reason == "stop"
        assert answer.usage.prompt_tokens == len(case["prompt_ids"])
        assert answer.object == "text_completion"


def test_text_and_ids_are_the_same_prompt(qwen):
    case = reference("mini-qwen3")[1]
    assert create(qwen, case["prompt"]).choices[0].text == create(qwen, case["prompt_ids"]).choices[0].text


def test_batch_of_prompts(qwen):
    cases = reference("mini-qwen3")[:4]
    alone = [create(qwen, case["prompt"]).choices[0].text for case in cases]
    for prompts in ([case["prompt"] for case in cases], [case["prompt_ids"] for case in cases]):
        choices = create(qwen, prompts).choices
        assert [choice.index for choice in choices] == [0, 1, 2, 3]
        assert [choice.text for choice in choices] == alone
    twice = create(qwen, [cases[0]["prompt"], cases[1]["prompt"]], n=2).choices
    assert [choice.text for choice in twice] == [alone[0], alone[0], alone[1], alone[1]]


def test_stream(qwen):
    case = reference("mini-qwen3")[0]
    whole = create(qwen, case["prompt"]).choices[0].text
    chunks = list(create(qwen, case["prompt"], stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole
    assert [c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].usage.completion_tokens == len(case["greedy_ids"])


def test_echo_and_logprobs(qwen):
    case = reference("mini-qwen3")[0]
    ids = case["prompt_ids"]
    choice = create(qwen, ids, echo=True, logprobs=3, max_tokens=1).choices[0]
    table = choice.logprobs
    count = len(ids) + 1
    assert [len(table.tokens), len(table.token_logprobs), len(table.top_logprobs), len(table.text_offset)] == [count] * 4
    assert table.token_logprobs[0] is None and table.top_logprobs[0] is None
    assert all(value <= 0 for value in table.token_logprobs[1:])
    for token, value, top in list(zip(table.tokens, table.token_logprobs, table.top_logprobs))[1:]:
        assert top[token] == value
    # The last entry is the first new token: the reference has the logits it came from.
    logits = numpy.array(case["last_logits"])
    expected = numpy.sort(logits - numpy.logaddexp.reduce(logits))[::-1][:3]
    numpy.testing.assert_allclose(sorted(table.top_logprobs[-1].values(), reverse=True)[:3], expected, atol=2e-3)
    # A prompt's tokens score as they do when they are generated.
    whole = ids + case["greedy_ids"]
    scores = create(qwen, whole[:-1], echo=True, logprobs=1, max_tokens=1).choices[0].logprobs.token_logprobs
    generated = create(qwen, ids, logprobs=1).choices[0].logprobs.token_logprobs
    numpy.testing.assert_allclose(scores[len(ids):], generated[:len(scores) - len(ids)], atol=1e-3)


def test_only_the_prompt_is_scored(qwen):
    ids = reference("mini-qwen3")[0]["prompt_ids"]
    response = qwen.post("/v1/completions", {"prompt": ids, "echo": True, "logprobs": 1, "max_tokens": 0})
    assert response.status_code == 200, response.text
    assert len(response.json()["choices"][0]["logprobs"]["tokens"]) == len(ids)


def test_echo_returns_the_prompt(qwen):
    plain = "How many apples"
    for prompt in (plain, qwen.post("/tokenize", {"prompt": plain}).json()["tokens"]):
        text = create(qwen, prompt, echo=True, max_tokens=4).choices[0].text
        assert text.startswith(plain) and len(text) > len(plain)
    marked = reference("mini-qwen3")[0]["prompt"]
    assert create(qwen, marked, echo=True, max_tokens=1).choices[0].text.startswith(marked)


def test_model_may_be_left_out(qwen):
    case = reference("mini-qwen3")[0]
    answer = qwen.post("/v1/completions", {"prompt": case["prompt"], "temperature": 0, "max_tokens": 200}).json()
    assert answer["choices"][0]["text"] == create(qwen, case["prompt"]).choices[0].text
    assert answer["model"] == "mini-qwen3"


def test_allowed_tokens_and_bad_words(qwen):
    digits = qwen.post("/tokenize", {"prompt": "0123456789"}).json()["tokens"]
    text = create(qwen, "Count:", max_tokens=20, extra_body={"allowed_token_ids": digits}).choices[0].text
    assert text.isdigit()
    case = reference("mini-qwen3", "cases_without_thinking")[0]
    assert "years" in create(qwen, case["prompt"]).choices[0].text
    assert "years" not in create(qwen, case["prompt"], extra_body={"bad_words": ["years"]}).choices[0].text


@pytest.mark.parametrize("bad", [
    {"prompt": ""}, {"prompt": []}, {"prompt": [1, "x"]}, {"prompt": [99999]}, {"prompt": [-1]}, {"prompt": {"a": 1}},
    {"prompt": None}, {"logprobs": 1000}, {"suffix": "x"}, {"best_of": 3},
    {"prompt": ["x"] * 100000, "n": 128},
])
def test_bad_values_are_400(qwen, bad):
    response = qwen.post("/v1/completions", {"prompt": "x", "max_tokens": 1, **bad})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]


def test_error_class(qwen):
    with pytest.raises(openai.BadRequestError):
        create(qwen, "x", temperature=-1)
