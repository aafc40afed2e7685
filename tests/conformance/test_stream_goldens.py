"""The event sequences that the server's own tests hold it to, read by the types of the official packages."""
import json

import pydantic
import pytest
from anthropic.types import ErrorResponse, Message, RawMessageStreamEvent
from conftest import ROOT
from openai.types.responses import Response, ResponseStreamEvent

CASES = json.loads((ROOT / "tests/data/server/streams.json").read_text())["cases"]
RESPONSE_EVENT = pydantic.TypeAdapter(ResponseStreamEvent)
MESSAGE_EVENT = pydantic.TypeAdapter(RawMessageStreamEvent)


def cases(path):
    return [pytest.param(case, id=case["name"]) for case in CASES if case["path"] == path]



@pytest.mark.parametrize("case", cases("/v1/responses"))
def test_responses(case):
    items = {}
    for number, event in enumerate(case["events"]):
        data = event["data"]
        assert event["event"] == data["type"]
        read = RESPONSE_EVENT.validate_python(data)
        assert read.type == data["type"] and read.sequence_number == number
        if data["type"] == "response.output_item.added":
            assert data["output_index"] == len(items)
            items[data["item"]["id"]] = ""
        if data["type"].endswith(".delta"):
            items[data["item_id"]] += data["delta"]
        if data["type"] in ("response.output_text.done", "response.reasoning_text.done"):
            assert data["text"] == items[data["item_id"]]
        if data["type"] == "response.function_call_arguments.done":
            assert data["arguments"] == items[data["item_id"]]
        if "response" in data:
            Response.model_validate(data["response"])
    kinds = [event["event"] for event in case["events"]]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    end = {"stop": "completed", "length": "incomplete", "error": "failed"}[case["end"]["reason"]]
    assert kinds[-1] == f"response.{end}" == f"response.{case['events'][-1]['data']['response']['status']}"
    assert [item["id"] for item in case["events"][-1]["data"]["response"]["output"]] == list(items)


@pytest.mark.parametrize("case", cases("/v1/messages"))
def test_messages(case):
    message = Message.model_validate(case["events"][0]["data"]["message"])
    assert message.stop_reason is None and message.content == []
    for event in case["events"]:
        data = event["data"]
        assert event["event"] == data["type"]
        if data["type"] == "error":
            ErrorResponse.model_validate(data)
        else:
            assert MESSAGE_EVENT.validate_python(data).type == data["type"]
    kinds = [event["event"] for event in case["events"]]
    assert kinds[0] == "message_start"
    if case["end"]["reason"] == "error":
        assert kinds[-1] == "error"
    else:
        assert kinds[-2:] == ["message_delta", "message_stop"]
    blocks = 0
    opened = False
    for event in case["events"]:
        if event["event"] == "content_block_start":
            assert not opened and event["data"]["index"] == blocks
            opened = True
        if event["event"] == "content_block_delta":
            assert opened and event["data"]["index"] == blocks
        if event["event"] == "content_block_stop":
            assert opened and event["data"]["index"] == blocks
            opened, blocks = False, blocks + 1
