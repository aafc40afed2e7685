"""Structured output: every answer obeys its grammar, streamed or not."""
import json
import re

import openai
import pydantic
import pytest

from conftest import question


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "size": {"enum": ["small", "large"]},
        "parts": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "minItems": 2, "maxItems": 3},
    },
    "required": ["name", "size", "parts"],
    "additionalProperties": False,
}


def create(server, **arguments):
    arguments.setdefault("temperature", 1)
    return server.openai.chat.completions.create(model=server.model, messages=question()[0], max_completion_tokens=400,
                                                 **arguments)


def check(text):
    value = json.loads(text)
    assert set(value) == {"name", "size", "parts"}
    assert len(value["name"]) <= 10 and value["size"] in ("small", "large")
    assert 2 <= len(value["parts"]) <= 3 and all(0 <= part <= 99 for part in value["parts"])


@pytest.mark.parametrize("model", ["qwen", "gpt_oss"])
@pytest.mark.parametrize("seed", range(3))
def test_schema(request, model, seed):
    server = request.getfixturevalue(model)
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
    check(create(server, response_format=form, seed=seed).choices[0].message.content)


def test_schema_streamed(qwen):
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}}
    check("".join(chunk.choices[0].delta.content or "" for chunk in create(qwen, response_format=form, stream=True)))


class Thing(pydantic.BaseModel):
    size: int
    heavy: bool


def test_parse(qwen):
    answer = qwen.openai.chat.completions.parse(model=qwen.model, messages=question()[0], response_format=Thing,
                                                max_completion_tokens=400, temperature=0)
    assert isinstance(answer.choices[0].message.parsed, Thing)


def test_json_object(qwen):
    # Nothing ends an object early but the model's will: braces are made likely.
    brace = qwen.post("/tokenize", {"prompt": "}"}).json()["tokens"][0]
    answer = create(qwen, response_format={"type": "json_object"}, logit_bias={str(brace): 100},
                    extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    text = answer.choices[0].message.content
    assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("form,pattern", [
    ({"regex": "[a-c]{3}-\\d{2,4}"}, "[a-c]{3}-\\d{2,4}"),
    ({"choice": ["yes", "no", "per haps"]}, "yes|no|per haps"),
    ({"grammar": 'root ::= "x" ("," "x"){2}'}, "x,x,x"),
])
def test_other_forms(qwen, form, pattern):
    for seed in range(3):
        text = create(qwen, seed=seed, extra_body={"structured_outputs": form}).choices[0].message.content
        assert re.fullmatch(pattern, text), text


def test_completions_too(qwen):
    answer = qwen.openai.completions.create(model=qwen.model, prompt="A word:", max_tokens=50, temperature=1,
                                            extra_body={"structured_outputs": {"choice": ["red", "green"]}})
    assert answer.choices[0].text in ("red", "green")


@pytest.mark.parametrize("body", [
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "quux"}}}},
    {"response_format": {"type": "json_schema"}},
    {"structured_outputs": {"regex": "(unclosed"}},
    {"structured_outputs": {"grammar": "root ::= absent"}},
    {"structured_outputs": {"choice": []}},
    {"structured_outputs": {"regex": "a", "choice": ["a"]}},
])
def test_bad_grammars_are_400(qwen, body):
    with pytest.raises(openai.BadRequestError):
        create(qwen, extra_body=body)
