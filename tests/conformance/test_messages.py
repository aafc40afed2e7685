"""/v1/messages through the anthropic package."""
import anthropic
import pytest

from conftest import WEATHER, question


TOOL = {"name": "get_weather", "description": "The weather of a town", "input_schema": WEATHER["function"]["parameters"]}


def create(server, **arguments):
    arguments.setdefault("messages", question()[0])
    arguments.setdefault("max_tokens", 400)
    # The package has no field for it any more; the route still takes it.
    arguments.setdefault("extra_body", {"temperature": 0})
    return server.anthropic.messages.create(model=server.model, **arguments)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text").strip()


def prompt_tokens(message):
    """Those read from the cache are counted apart."""
    return message.usage.input_tokens + message.usage.cache_read_input_tokens


def test_plain(qwen):
    _, content, _ = question()
    answer = create(qwen)
    assert (answer.type, answer.role, answer.model, answer.stop_reason) == ("message", "assistant", "mini-qwen3", "end_turn")
    assert text_of(answer) == content
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0


def test_system_and_blocks(qwen):
    messages, content, _ = question()
    blocks = [{"role": "user", "content": [{"type": "text", "text": messages[0]["content"]}]}]
    assert text_of(create(qwen, messages=blocks)) == content
    answer = create(qwen, system="Be brief.", max_tokens=4)
    chat = qwen.post("/tokenize", {"messages": [{"role": "system", "content": "Be brief."}, *messages]}).json()["count"]
    assert prompt_tokens(answer) == chat and answer.stop_reason == "max_tokens"


def test_stop_sequence(qwen):
    answer = create(qwen, stop_sequences=["####"])
    assert answer.stop_reason == "stop_sequence" and answer.stop_sequence == "####"
    assert text_of(answer) == question()[1].split("####")[0].strip()


def test_stream(qwen):
    _, content, _ = question()
    events = list(create(qwen, stream=True))
    kinds = [event.type for event in events if event.type != "ping"]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") > 0
    text = "".join(e.delta.text for e in events if e.type == "content_block_delta" and e.delta.type == "text_delta")
    assert text.strip() == content
    delta = [e for e in events if e.type == "message_delta"][0]
    assert delta.delta.stop_reason == "end_turn" and delta.usage.output_tokens > 0


def test_stream_helper(qwen):
    with qwen.anthropic.messages.stream(model=qwen.model, max_tokens=400, extra_body={"temperature": 0}, messages=question()[0]) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text.strip() == text_of(final) == question()[1]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_tools(qwen, choice):
    answer = create(qwen, tools=[TOOL], tool_choice=choice)
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use" and calls and calls[0].id
    assert calls[0].name == "get_weather" and set(calls[0].input) == {"town", "days"}


def test_tools_streamed(qwen):
    with qwen.anthropic.messages.stream(model=qwen.model, max_tokens=400, extra_body={"temperature": 0}, messages=question()[0],
                                        tools=[TOOL], tool_choice={"type": "any"}) as stream:
        final = stream.get_final_message()
    calls = [block for block in final.content if block.type == "tool_use"]
    assert calls and set(calls[0].input) == {"town", "days"}


def test_tool_result_goes_in(gpt_oss):
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"town": "Oslo"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]},
    ]
    assert create(gpt_oss, messages=messages, tools=[TOOL], max_tokens=8).usage.output_tokens > 0


def test_count_tokens(qwen):
    count = qwen.anthropic.messages.count_tokens(model=qwen.model, messages=question()[0])
    assert count.input_tokens == prompt_tokens(create(qwen, max_tokens=1))


def test_errors(qwen):
    with pytest.raises(anthropic.NotFoundError) as error:
        qwen.anthropic.messages.create(model="absent", max_tokens=1, messages=question()[0])
    assert error.value.body["type"] == "error" and error.value.body["error"]["type"] == "not_found_error"
    for bad in ({"max_tokens": 0}, {"messages": []}, {"extra_body": {"temperature": 7}}, {"messages": [{"role": "wizard", "content": "x"}]}):
        with pytest.raises(anthropic.BadRequestError) as error:
            create(qwen, **bad)
        assert error.value.body["error"]["type"] == "invalid_request_error"
    response = qwen.post("/v1/messages", {"model": qwen.model, "messages": question()[0]})
    assert response.status_code == 400 and "max_tokens" in response.json()["error"]["message"]


def test_key(locked):
    assert create(locked, max_tokens=2).usage.output_tokens == 2
    with pytest.raises(anthropic.AuthenticationError) as error:
        anthropic.Anthropic(base_url=locked.url, api_key="wrong", max_retries=0).messages.create(
            model=locked.model, max_tokens=1, messages=question()[0])
    assert error.value.body["error"]["type"] == "authentication_error"
