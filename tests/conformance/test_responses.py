"""/v1/responses through the openai package."""
import json

import openai
import pytest

from conftest import WEATHER, question


TOOL = {"type": "function", **WEATHER["function"], "strict": True}


def create(server, prompt=None, **arguments):
    arguments.setdefault("temperature", 0)
    return server.openai.responses.create(model=server.model, input=prompt or question()[0][0]["content"], **arguments)


def test_plain(qwen):
    _, content, reasoning = question()
    answer = create(qwen)
    assert answer.object == "response" and answer.status == "completed" and answer.error is None
    assert answer.output_text.strip() == content
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.output[0].content[0].text.strip() == reasoning
    assert answer.output[1].role == "assistant" and answer.output[1].status == "completed"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.input_tokens_details.cached_tokens >= 0


def test_items_and_instructions(qwen):
    messages, content, _ = question()
    parts = [{"role": "user", "content": [{"type": "input_text", "text": messages[0]["content"]}]}]
    assert create(qwen, parts).output_text.strip() == content
    answer = create(qwen, instructions="Be brief.", max_output_tokens=16)
    chat = qwen.post("/tokenize", {"messages": [{"role": "system", "content": "Be brief."}, *messages]}).json()["count"]
    assert answer.usage.input_tokens == chat and answer.instructions == "Be brief."


def test_cut_off(qwen):
    answer = create(qwen, max_output_tokens=16)
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.output_tokens == 16


def test_stream(qwen):
    _, content, reasoning = question()
    events = list(create(qwen, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[1] == "response.in_progress"
    assert kinds[-1] == "response.completed"

    def text(kind):
        return "".join(event.delta for event in events if event.type == kind)

    assert text("response.output_text.delta").strip() == content
    assert text("response.reasoning_text.delta").strip() == reasoning
    for begin, end in (("response.output_item.added", "response.output_item.done"),
                       ("response.content_part.added", "response.content_part.done")):
        assert kinds.count(begin) == kinds.count(end) > 0
    done = [event for event in events if event.type == "response.output_text.done"]
    assert len(done) == 1 and done[0].text.strip() == content
    assert events[-1].response.output_text.strip() == content
    assert events[-1].response.id == events[0].response.id


def test_previous_response(qwen):
    first = create(qwen, store=True)
    second = create(qwen, "And in one more year?", previous_response_id=first.id, max_output_tokens=16)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens + 10
    again = qwen.openai.responses.retrieve(first.id)
    assert again.id == first.id and again.output_text == first.output_text
    with pytest.raises(openai.NotFoundError):
        qwen.openai.responses.retrieve("resp_absent")
    with pytest.raises(openai.APIStatusError) as error:
        create(qwen, previous_response_id="resp_absent")
    assert error.value.status_code in (400, 404)


def test_function_call(qwen):
    answer = create(qwen, "Weather in Oslo?", tools=[TOOL], tool_choice="required", max_output_tokens=400)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert calls and calls[0].name == "get_weather" and calls[0].call_id
    assert set(json.loads(calls[0].arguments)) == {"town", "days"}


def test_function_call_streamed(qwen):
    events = list(create(qwen, "Weather in Oslo?", tools=[TOOL], tool_choice={"type": "function", "name": "get_weather"},
                         max_output_tokens=400, stream=True))
    deltas = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
    done = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert done[0].arguments == deltas and set(json.loads(deltas)) == {"town", "days"}
    added = [e.item for e in events if e.type == "response.output_item.added" and e.item.type == "function_call"]
    assert added[0].name == "get_weather" and added[0].call_id


def test_function_output_goes_in(gpt_oss):
    items = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{\"town\": \"Oslo\"}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
    ]
    assert create(gpt_oss, items, tools=[TOOL], max_output_tokens=16).usage.output_tokens > 0


def test_text_format(qwen):
    form = {"type": "json_schema", "name": "thing", "strict": True,
            "schema": {"type": "object", "properties": {"size": {"enum": ["small", "large"]}}, "required": ["size"],
                       "additionalProperties": False}}
    assert json.loads(create(qwen, text={"format": form}, max_output_tokens=200).output_text)["size"] in ("small", "large")


def test_reasoning_effort(gpt_oss):
    low = create(gpt_oss, reasoning={"effort": "low"}, max_output_tokens=16)
    high = create(gpt_oss, reasoning={"effort": "high"}, max_output_tokens=16)
    assert low.usage.input_tokens > 0 and high.usage.input_tokens > 0


@pytest.mark.parametrize("bad", [{"input": 5}, {"input": []}, {"max_output_tokens": 0}, {"tools": [{"type": "web_search"}]},
                                 {"input": [{"type": "banana"}]}, {"temperature": 9}])
def test_bad_values_are_400(qwen, bad):
    response = qwen.post("/v1/responses", {"model": qwen.model, "input": "x", **bad})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]
