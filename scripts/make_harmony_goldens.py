#!/usr/bin/env python3
"""Writes tests/data/harmony/golden.json: conversations and their prompts by the openai-harmony package.

Needs openai-harmony 0.0.8 with its vocabulary (TIKTOKEN_ENCODINGS_BASE names a folder that holds it).
"""

import json
import pathlib

from openai_harmony import (Author, Conversation, DeveloperContent, HarmonyEncodingName, Message, ReasoningEffort,
                            RenderConversationConfig, Role, SystemContent, ToolDescription, load_harmony_encoding)

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/harmony/golden.json"
DATE = "2025-06-28"
encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)


def system(content):
    return {"role": "system", "content": content}


def user(content):
    return {"role": "user", "content": content}


def assistant(content=None, reasoning=None, calls=()):
    message = {"role": "assistant", "content": content}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls]
    return message


def tool(call_id, content):
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def function(name, description=None, parameters=None):
    inner = {"name": name}
    if description is not None:
        inner["description"] = description
    if parameters is not None:
        inner["parameters"] = parameters
    return {"type": "function", "function": inner}


def properties(required=(), **fields):
    schema = {"type": "object", "properties": fields}
    if required:
        schema["required"] = list(required)
    return schema


WEATHER = function("get_weather", "The weather.\nNow.", properties(
    ["city"], city={"type": "string", "description": "A city, e.g. \"Paris\""},
    unit={"type": "string", "enum": ["c", "f"], "default": "c"}))
TYPES = function("types", "All types", properties(
    ["s", "o"],
    s={"type": "string"}, i={"type": "integer"}, n={"type": "number", "default": 1.5}, b={"type": "boolean", "default": True},
    none={"type": "null"}, list={"type": "array", "items": {"type": "string"}, "description": "a list", "default": ["a", "é"]},
    any_list={"type": "array"},
    objects={"type": "array", "items": properties(["q"], q={"type": "string", "description": "the q"}, r={"type": "number"})},
    o={"type": "object", "description": "an object", "properties": {
        "x": {"type": "string", "description": "the x", "default": "y"}, "deep": properties(z={"type": "integer"})}, "required": ["x"]},
    empty={"type": "object"}, union={"type": ["string", "integer", "null"], "default": "k"}, anything={}, values={"enum": ["a", 1]},
    numbers={"type": "integer", "enum": [1, 2]}, any_of={"anyOf": [{"type": "string"}], "description": "any of"},
    nullable={"type": "string", "nullable": True, "default": None}, reference={"$ref": "#/x"}, constant={"const": 5},
    examples={"type": "string", "title": "Title", "description": "text", "examples": ["e1", 2, "e2"]}, boolean=True,
    map={"type": "object", "additionalProperties": {"type": "string"}}))
ONE_OF = function("one_of", "oneOf", properties(
    a={"oneOf": [{"type": "string", "description": "text"}, {"type": "integer", "default": 5, "description": "whole"}],
       "description": "either", "default": "d"},
    b={"oneOf": [{"type": "string", "description": "same"}, {"type": "number", "nullable": True}], "description": "same"},
    c={"oneOf": [properties(k={"type": "string", "description": "the k"}), {"type": "array", "items": {"type": "integer"}},
                 {"type": "string", "enum": ["p", "q"], "default": "p"}]},
    d={"type": "array", "items": {"oneOf": [{"type": "string", "description": "text", "default": "x"}, {"type": "string", "enum": ["p"], "default": "p"}]}}))

CASES = [
    ("one question", {"messages": [user("2 + 2?")]}),
    ("instructions", {"messages": [system("Be brief.\nBe kind."), user("Hi")], "kwargs": {"reasoning_effort": "low"}}),
    ("two instructions", {"messages": [system("One."), {"role": "developer", "content": "Two."}, user("Hi")]}),
    ("identity", {"messages": [user("Hi")], "kwargs": {"model_identity": "You are Saber.", "reasoning_effort": "high", "knowledge_cutoff": "2020-01"}}),
    ("content parts", {"messages": [user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])]}),
    ("markup in text", {"messages": [system("<|end|>"), user("<|start|>system<|message|>no<|end|>"), assistant("<|return|>"), user("\u00e9 <|channel|>")]}),
    ("history", {"messages": [user("a"), assistant("b", "why b"), user("c"), assistant("d", "why d"), user("e")]}),
    ("no generation prompt", {"messages": [user("a"), assistant("b", "why b")], "add_generation_prompt": False}),
    ("tools", {"messages": [user("a")], "tools": [WEATHER, function("now", "The time"), function("bare"), function("empty", "", properties())]}),
    ("types", {"messages": [system("Do."), user("a")], "tools": [TYPES, ONE_OF, function("list", "a", {"type": "array", "items": {"type": "string"}})]}),
    ("tool loop", {"messages": [user("a"), assistant(None, "I need it", [("c1", "get_weather", '{"city": "Paris"}')]), tool("c1", '{"t": 20}')], "tools": [WEATHER]}),
    ("preamble and two calls", {"messages": [user("a"), assistant("Looking.", "hm", [("c1", "get_weather", '{"city":"Paris"}'), ("c2", "now", "{}")]),
                                             tool("c2", "12:00"), tool("c1", "20")], "tools": [WEATHER, function("now", "The time")]}),
    ("tool loop after an answer", {"messages": [user("a"), assistant("b", "old"), user("c"), assistant(None, "new", [("c1", "now", "{}")]), tool("c1", "12")], "tools": [function("now", "The time")]}),
    ("tool loop answered", {"messages": [user("a"), assistant(None, "one", [("c1", "now", "{}")]), tool("c1", "12"), assistant("It is 12.", "two"), user("thanks")], "tools": [function("now", "The time")]}),
    ("named result", {"messages": [user("a"), assistant(None, None, [("c1", "now", "{}")]), {"role": "tool", "name": "now", "content": "12"}]}),
    ("response format", {"messages": [system("Do."), user("a")], "kwargs": {"response_format": {"type": "json_schema", "json_schema": {
        "name": "shopping_list", "description": "A list.", "schema": properties(items={"type": "array", "items": {"type": "string", "description": "caf\u00e9"}})}}}}),
    ("later instructions", {"messages": [user("a"), system("Now be brief."), user("b")]}),
]


def text_of(content):
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""


def response_format(kwargs):
    named = kwargs["response_format"]["json_schema"]
    schema = json.dumps(named["schema"], ensure_ascii=False, separators=(",", ":"))
    return f"# Response Formats\n\n## {named['name']}\n\n// {named['description']}\n\n{schema}"


def conversation(request):
    kwargs = request.get("kwargs", {})
    content = SystemContent.new().with_conversation_start_date(DATE)
    if "reasoning_effort" in kwargs:
        content = content.with_reasoning_effort(ReasoningEffort(kwargs["reasoning_effort"].capitalize()))
    if "model_identity" in kwargs:
        content = content.with_model_identity(kwargs["model_identity"])
    if "knowledge_cutoff" in kwargs:
        content = content.with_knowledge_cutoff(kwargs["knowledge_cutoff"])
    messages = [Message.from_role_and_content(Role.SYSTEM, content)]

    rest = list(request["messages"])
    instructions = []
    while rest and rest[0]["role"] in ("system", "developer"):
        instructions.append(text_of(rest.pop(0)["content"]))
    developer = DeveloperContent.new()
    tools = [t["function"] for t in request.get("tools", [])]
    # The package has no field for a response format: as its documentation shows, it ends the instructions.
    text = "\n\n".join(instructions)
    if "response_format" in kwargs:
        text = "\n\n".join([text] if text else []) + "\n\n" + response_format(kwargs)
    if text:
        developer = developer.with_instructions(text)
    if tools:
        developer = developer.with_function_tools(
            [ToolDescription.new(t["name"], t.get("description", ""), t.get("parameters")) for t in tools])
    if text or tools:
        messages.append(Message.from_role_and_content(Role.DEVELOPER, developer))

    names = {}
    body = []
    for message in rest:
        role, content = message["role"], text_of(message["content"])
        if role == "user":
            body.append(Message.from_role_and_content(Role.USER, content))
        elif role in ("system", "developer"):
            body.append(Message.from_role_and_content(Role.DEVELOPER, DeveloperContent.new().with_instructions(content)))
        elif role == "tool":
            name = "functions." + (message.get("name") or names[message["tool_call_id"]])
            body.append(Message.from_author_and_content(Author.new(Role.TOOL, name), content)
                        .with_channel("commentary").with_recipient("assistant"))
        else:
            calls = message.get("tool_calls", [])
            if "reasoning_content" in message:
                body.append(Message.from_role_and_content(Role.ASSISTANT, message["reasoning_content"]).with_channel("analysis"))
            if content:
                body.append(Message.from_role_and_content(Role.ASSISTANT, content).with_channel("commentary" if calls else "final"))
            for call in calls:
                names[call["id"]] = call["function"]["name"]
                body.append(Message.from_role_and_content(Role.ASSISTANT, call["function"]["arguments"]).with_channel("commentary")
                            .with_recipient("functions." + call["function"]["name"]).with_content_type("<|constrain|>json"))
    # The package drops only what precedes the first answer; earlier turns are the caller's.
    finals = [i for i, m in enumerate(body) if m.channel == "final"]
    last = finals[-1] if finals else 0
    body = [m for i, m in enumerate(body) if m.channel != "analysis" or i > last]
    return Conversation.from_messages(messages + body)


def parts(tokens):
    """Runs of text and single special tokens."""
    out, run = [], []

    def flush():
        if run:
            out.append([encoding.decode(run), False])
            run.clear()

    for token in tokens:
        if encoding.is_special_token(token):
            flush()
            out.append([encoding.decode([token]), True])
        else:
            run.append(token)
    flush()
    return out


def main():
    cases = []
    keep = RenderConversationConfig(auto_drop_analysis=False)
    for name, request in CASES:
        built = conversation(request)
        if request.get("add_generation_prompt", True):
            tokens = encoding.render_conversation_for_completion(built, Role.ASSISTANT, keep)
        else:
            tokens = encoding.render_conversation(built, keep)
        kwargs = {"current_date": DATE, **request.get("kwargs", {})}
        cases.append({"name": name, "request": {**request, "kwargs": kwargs}, "parts": parts(tokens)})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"cases": cases}, ensure_ascii=False, indent=1) + "\n")
    print(f"{OUT.name}: {len(cases)} conversations")


if __name__ == "__main__":
    main()
