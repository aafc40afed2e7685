"""/v1/chat/completions through the openai package."""
import asyncio
import json

import numpy
import openai
import pytest

from conftest import ROOT, question, reference


def create(server, messages, **arguments):
    arguments.setdefault("temperature", 0)
    return server.openai.chat.completions.create(model=server.model, messages=messages, **arguments)


@pytest.mark.parametrize("index", range(4))
def test_answers_as_the_reference_does(qwen, index):
    messages, content, reasoning = question(index=index)
    answer = create(qwen, messages)
    assert answer.object == "chat.completion" and answer.model == "mini-qwen3" and answer.id
    choice = answer.choices[0]
    assert (choice.index, choice.message.role, choice.finish_reason) == (0, "assistant", "stop")
    assert choice.message.content.strip() == content
    assert choice.message.reasoning.strip() == reasoning
    assert not choice.message.tool_calls
    case = reference("mini-qwen3")[index]
    assert answer.usage.prompt_tokens == len(case["prompt_ids"])
    assert answer.usage.completion_tokens == len(case["greedy_ids"])
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_gpt_oss_channels(gpt_oss):
    """The prompt is harmony's own, so only the form of the answer is known."""
    messages, _, _ = question("mini-gpt-oss")
    answer = create(gpt_oss, messages, max_completion_tokens=300)
    message = answer.choices[0].message
    for text in (message.content or "", message.reasoning or ""):
        assert "<|" not in text
    assert message.content or message.reasoning


def test_template_arguments(qwen):
    case = reference("mini-qwen3", "cases_without_thinking")[0]
    answer = create(qwen, case["messages"], extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert answer.choices[0].message.content.strip() == case["greedy_text"].removesuffix("<|im_end|>")
    assert not answer.choices[0].message.reasoning


def test_stream(qwen):
    messages, content, reasoning = question()
    chunks = list(create(qwen, messages, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    *body, last = chunks
    assert last.choices == [] and last.usage.completion_tokens == len(reference("mini-qwen3")[0]["greedy_ids"])
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in body)
    deltas = [chunk.choices[0].delta for chunk in body]
    thoughts = [i for i, d in enumerate(deltas) if getattr(d, "reasoning", None)]
    words = [i for i, d in enumerate(deltas) if d.content]
    assert max(thoughts) < min(words), "reasoning comes before content"
    assert len(words) > 5, "the answer came in pieces"
    assert "".join(deltas[i].reasoning for i in thoughts).strip() == reasoning
    assert "".join(deltas[i].content for i in words).strip() == content
    finished = [chunk.choices[0].finish_reason for chunk in body if chunk.choices[0].finish_reason]
    assert finished == ["stop"] and body[-1].choices[0].finish_reason == "stop"


def test_stream_is_server_sent_events(qwen):
    messages, _, _ = question()
    body = {"messages": messages, "stream": True, "max_tokens": 3}
    with qwen.post("/v1/chat/completions", body, stream=True) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        text = response.content.decode()
    events = text.split("\n\n")
    assert events[-1] == "" and events[-2] == "data: [DONE]"
    for event in events[:-2]:
        assert event.startswith("data: ") and "\n" not in event
        assert json.loads(event[6:])["choices"]


def test_continuous_usage(qwen):
    messages, _, _ = question()
    chunks = list(create(qwen, messages, stream=True, max_tokens=6,
                         stream_options={"include_usage": True, "continuous_usage_stats": True}))
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts) and counts[-1] == 6


def test_several_choices(qwen):
    messages, content, _ = question()
    answer = create(qwen, messages, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content.strip() for choice in answer.choices} == {content}
    varied = create(qwen, messages, n=4, temperature=2.0, seed=5, max_completion_tokens=20)
    texts = [choice.message.reasoning or choice.message.content for choice in varied.choices]
    assert len(set(texts)) > 1, "choices of one request are sampled apart"
    streamed = [{}, {}]
    for chunk in create(qwen, messages, n=2, stream=True):
        choice = chunk.choices[0]
        streamed[choice.index]["text"] = streamed[choice.index].get("text", "") + (choice.delta.content or "")
    assert [one["text"].strip() for one in streamed] == [content, content]


def test_seed_decides(qwen):
    messages, _, _ = question()

    def text(seed):
        message = create(qwen, messages, temperature=1.8, seed=seed, max_completion_tokens=30).choices[0].message
        return (message.reasoning or "") + (message.content or "")

    assert text(11) == text(11)
    assert len({text(seed) for seed in range(6)}) > 1


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_length(qwen, field):
    messages, _, _ = question()
    answer = create(qwen, messages, **{field: 5})
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 5


def test_stop_strings(qwen):
    messages, content, _ = question()
    cut = content.split("####")[0]
    answer = create(qwen, messages, stop=["####"])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content.strip() == cut.strip()
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in create(qwen, messages, stop="####", stream=True))
    assert streamed.strip() == cut.strip()
    kept = create(qwen, messages, stop=["####"], extra_body={"include_stop_str_in_output": True})
    assert kept.choices[0].message.content.strip() == (cut + "####").strip()


def test_ignore_eos_and_least_length(qwen):
    messages, _, _ = question()
    answer = create(qwen, messages, max_completion_tokens=150, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 150 and answer.choices[0].finish_reason == "length"
    answer = create(qwen, messages, max_completion_tokens=200, extra_body={"min_tokens": 90})
    assert answer.usage.completion_tokens >= 90


def test_logprobs(qwen):
    case = reference("mini-qwen3")[0]
    choice = create(qwen, case["messages"], logprobs=True, top_logprobs=5).choices[0]
    entries = choice.logprobs.content
    assert len(entries) == len(case["greedy_ids"])
    logits = numpy.array(case["last_logits"])
    expected = numpy.sort(logits - numpy.logaddexp.reduce(logits))[::-1][:5]
    got = [top.logprob for top in entries[0].top_logprobs]
    numpy.testing.assert_allclose(got, expected, atol=2e-3)
    for entry in entries:
        assert entry.logprob == max(top.logprob for top in entry.top_logprobs)
        assert bytes(entry.bytes).decode() == entry.token
    streamed = []
    for chunk in create(qwen, case["messages"], logprobs=True, top_logprobs=5, stream=True):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert [e.token for e in streamed] == [e.token for e in entries]
    numpy.testing.assert_allclose([e.logprob for e in streamed], [e.logprob for e in entries], atol=1e-6)


def test_logit_bias(qwen):
    messages, _, _ = question()
    token = qwen.post("/tokenize", {"prompt": "7"}).json()["tokens"][0]
    answer = create(qwen, messages, max_completion_tokens=6, logit_bias={str(token): 100},
                    extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert answer.choices[0].message.content == "777777"


def test_penalties_change_the_answer(qwen):
    messages, content, _ = question()
    extra = {"repetition_penalty": 3.0}
    answer = create(qwen, messages, max_completion_tokens=80, presence_penalty=2, frequency_penalty=2, extra_body=extra)
    assert (answer.choices[0].message.content or "").strip() != content


def test_messages_of_every_form(qwen):
    messages, content, _ = question()
    parts = [{"role": "user", "content": [{"type": "text", "text": messages[0]["content"]}]}]
    assert create(qwen, parts).choices[0].message.content.strip() == content
    long = [{"role": "system", "content": "Be brief."}, messages[0], {"role": "assistant", "content": "It is 41."},
            {"role": "user", "content": "Sure?"}]
    answer = create(qwen, long, max_completion_tokens=5)
    tokens = qwen.post("/tokenize", {"messages": long}).json()["count"]
    assert answer.usage.prompt_tokens == tokens


def test_prefix_cache_is_told(qwen):
    case = reference("mini-qwen3")[2]
    create(qwen, case["messages"], max_completion_tokens=1)
    usage = create(qwen, case["messages"], max_completion_tokens=1).usage
    assert usage.prompt_tokens_details.cached_tokens >= 16


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                                  {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}])
def test_other_than_text_is_refused_by_name(qwen, part):
    with pytest.raises(openai.BadRequestError, match=part["type"]):
        create(qwen, [{"role": "user", "content": [part]}])


def test_tool_result_in_the_conversation(gpt_oss):
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "call_1", "type": "function",
                         "function": {"name": "get_weather", "arguments": "{\"town\": \"Oslo\"}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    answer = create(gpt_oss, messages, max_completion_tokens=8)
    assert answer.usage.completion_tokens > 0


def test_unknown_model(qwen):
    with pytest.raises(openai.NotFoundError) as error:
        qwen.openai.chat.completions.create(model="gpt-99", messages=[{"role": "user", "content": "x"}])
    assert "gpt-99" in error.value.message
    assert error.value.body["code"] == "model_not_found"


@pytest.mark.parametrize("bad", [
    {"temperature": -1}, {"temperature": "hot"}, {"top_p": 0}, {"top_p": 1.5}, {"max_tokens": 0}, {"max_tokens": -4},
    {"n": 0}, {"n": 10 ** 9}, {"messages": []}, {"messages": "hello"}, {"messages": [{"role": "user"}]},
    {"stop": ["a"] * 1000000}, {"stop": [3]},
    {"logit_bias": {"999999": 1}}, {"logit_bias": {"x": 1}}, {"top_logprobs": 5}, {"logprobs": True, "top_logprobs": 99},
    {"stream": "yes"}, {"seed": "x"}, {"frequency_penalty": 5}, {"max_tokens": 10 ** 30}, {"stream_options": {"include_usage": True}},
    {"tools": "x"}, {"tools": [{"type": "function"}]}, {"response_format": {"type": "poem"}},
])
def test_bad_values_are_400(qwen, bad):
    messages, _, _ = question()
    response = qwen.post("/v1/chat/completions", {"messages": messages, "max_tokens": 2, **bad})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["message"] and error["type"] and "param" in error and "code" in error


def test_too_long_a_prompt_tells_both_numbers(qwen):
    with pytest.raises(openai.BadRequestError, match="2048") as error:
        create(qwen, [{"role": "user", "content": "seven " * 3000}])
    assert error.value.body["code"] == "context_length_exceeded"


def test_many_at_once(moe):
    cases = reference("mini-qwen3-moe")

    async def all_of_them():
        client = moe.async_openai
        return await asyncio.gather(*[
            client.completions.create(model=moe.model, prompt=cases[i % len(cases)]["prompt_ids"], temperature=0, max_tokens=200,
                                      extra_body={"return_token_ids": True})
            for i in range(64)])

    for i, answer in enumerate(asyncio.run(all_of_them())):
        assert answer.choices[0].token_ids == cases[i % len(cases)]["greedy_ids"]
        assert answer.choices[0].finish_reason == "stop"


def test_closing_a_stream_ends_the_request(qwen):
    before = qwen.settle()
    stream = create(qwen, question()[0], stream=True, max_completion_tokens=1900, extra_body={"ignore_eos": True})
    for _ in range(5):
        next(stream)
    stream.close()
    after = qwen.settle()
    assert after["vllm:num_requests_running"] == 0 and after["sabrewing:kv_cache_blocks_used"] == 0
    assert after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] < 1500


def test_closing_a_connection_ends_a_plain_request(qwen):
    client = qwen.openai.with_options(timeout=0.05)
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model=qwen.model, messages=question()[0], max_completion_tokens=1900,
                                       extra_body={"ignore_eos": True})
    assert qwen.settle()["sabrewing:kv_cache_blocks_used"] == 0


def test_helper_for_streams(qwen):
    """The package's accumulator takes every chunk without complaint."""
    messages, content, _ = question()
    with qwen.openai.chat.completions.stream(model=qwen.model, messages=messages, temperature=0) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content.strip() == content
