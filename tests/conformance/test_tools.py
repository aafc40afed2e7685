"""Function calls through the openai package. The models were not trained for tools, so calls are made by force."""
import json

import openai
import pytest

from conftest import CLOCK, WEATHER, question


def create(server, **arguments):
    arguments.setdefault("messages", [{"role": "user", "content": "Weather in Oslo?"}])
    return server.openai.chat.completions.create(model=server.model, temperature=0, max_completion_tokens=300, **arguments)


def check_call(call, names=("get_weather",)):
    assert call.type == "function" and call.id
    assert call.function.name in names
    arguments = json.loads(call.function.arguments)
    if call.function.name == "get_weather":
        assert isinstance(arguments["town"], str) and 0 <= arguments["days"] <= 9 and len(arguments) == 2
    else:
        assert arguments == {}


@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_an_answer_without_calls_stays_content(qwen, choice):
    messages, content, _ = question()
    arguments = {"tool_choice": choice} if choice else {}
    answer = create(qwen, messages=messages, tools=[WEATHER], **arguments).choices[0]
    assert answer.finish_reason == "stop" and not answer.message.tool_calls
    assert answer.message.content.strip() == content


@pytest.mark.parametrize("model", ["qwen", "gpt_oss"])
def test_named(request, model):
    server = request.getfixturevalue(model)
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = create(server, tools=[WEATHER, CLOCK], tool_choice=choice).choices[0]
    assert len(answer.message.tool_calls) == 1
    check_call(answer.message.tool_calls[0])


def test_required(qwen):
    answer = create(qwen, tools=[WEATHER, CLOCK], tool_choice="required").choices[0]
    assert answer.finish_reason == "tool_calls" and answer.message.tool_calls
    for call in answer.message.tool_calls:
        check_call(call, ("get_weather", "get_time"))


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_stream(qwen, choice):
    chunks = list(create(qwen, tools=[WEATHER], tool_choice=choice, stream=True))
    pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    first = {}
    arguments = {}
    for piece in pieces:
        if piece.index not in first:
            assert piece.id and piece.type == "function" and piece.function.name == "get_weather", "first piece"
            first[piece.index] = piece.id
        else:
            assert not piece.id and not piece.function.name, "later pieces carry arguments only"
        arguments[piece.index] = arguments.get(piece.index, "") + (piece.function.arguments or "")
    assert sorted(first) == list(range(len(first))) and first
    assert len(set(first.values())) == len(first)
    for text in arguments.values():
        assert set(json.loads(text)) == {"town", "days"}
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] in (["tool_calls"], ["stop"])


@pytest.mark.parametrize("bad", [
    {"tool_choice": "required"},
    {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "absent"}}},
    {"tools": [WEATHER], "tool_choice": "sometimes"},
    {"tools": [{"type": "function", "function": {"parameters": {}}}]},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
    {"tools": [{"type": "browser"}]},
])
def test_bad_tools_are_400(qwen, bad):
    with pytest.raises(openai.BadRequestError):
        create(qwen, **bad)
