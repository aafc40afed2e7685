#!/usr/bin/env python3
"""Writes tests/data/deepseek_v4/golden.json: conversations and their prompts by vLLM's renderer for DeepSeek-V4.

usage: make_deepseek_v4_goldens.py WHEEL    (the wheel of vllm 0.33.0; two of its files run, nothing is installed)
"""

import json
import pathlib
import sys
import types
import zipfile

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/deepseek_v4/golden.json"
FOLDER = "vllm/tokenizers/"


def module(name, **members):
    result = types.ModuleType(name)
    result.__dict__.update(members)
    sys.modules[name] = result
    return result


def load_renderer(wheel):
    """What `apply_chat_template` is there, without the parts of vLLM that it only names."""
    files = zipfile.ZipFile(wheel)
    for package in ("vllm", "vllm.renderers", "vllm.tokenizers"):
        module(package, __path__=[])
    module("transformers", TokenizersBackend=object)
    module("vllm.renderers.chat_utils", ChatCompletionMessageParam=dict)
    module("vllm.tokenizers.hf", HfTokenizer=object, get_cached_tokenizer=lambda tokenizer: tokenizer)
    module("vllm.tokenizers.protocol", TokenizerLike=object)
    for name in ("deepseek_v4_encoding", "deepseek_v4"):
        source = files.read(f"{FOLDER}{name}.py")
        made = module(f"vllm.tokenizers.{name}", __package__="vllm.tokenizers")
        exec(compile(source, f"{FOLDER}{name}.py", "exec"), made.__dict__)

    class Tokenizer:
        def get_added_vocab(self):
            return {}

    return made.get_deepseek_v4_tokenizer(Tokenizer())


def system(content):
    return {"role": "system", "content": content}


def developer(content):
    return {"role": "developer", "content": content}


def user(content):
    return {"role": "user", "content": content}


def assistant(content=None, reasoning=None, calls=()):
    message = {"role": "assistant", "content": content}
    if reasoning is not None:
        message["reasoning"] = reasoning
    if calls:
        message["tool_calls"] = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls]
    return message


def tool(call_id, content):
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def function(name, description, **fields):
    return {"type": "function", "function": {"name": name, "description": description,
                                             "parameters": {"type": "object", "properties": fields}}}


WEATHER = function("get_weather", "The weather, \u5929\u6c17 \U0001f327", city={"type": "string"}, days={"type": "number", "default": 1.5})
NOW = function("now", "The time\nof day")
SEARCH = json.dumps({"city": "Z\u00fcrich \"x\"\n", "days": 2, "list": [1, {"a": None}], "ok": True, "x": 1e22}, ensure_ascii=False)
CHAT = {"enable_thinking": False}
HISTORY = [system("Be brief."), user("a"), assistant("b", "why b"), user("c"), assistant("d", "why d"), user("e")]
TOOL_LOOP = [user("a"), assistant("Looking.", "I need it", [("c1", "get_weather", SEARCH), ("c2", "now", "{}")])]

CASES = [
    ("one question", [user("2 + 2?")], {}),
    ("chat", [user("2 + 2?")], CHAT),
    ("thinking off", [user("2 + 2?")], {"thinking": False}),
    ("thinking on", [system("Be brief."), user("2 + 2?")], {"thinking": True}),
    *((f"effort {effort}", [system("s"), user("u")], {"reasoning_effort": effort})
      for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    ("effort without thinking", [user("u")], {"reasoning_effort": "max", **CHAT}),
    ("history", HISTORY, {}),
    ("history in chat", HISTORY, CHAT),
    ("history with its reasoning", HISTORY, {"drop_thinking": False}),
    ("history with tools", HISTORY, {"tools": [WEATHER]}),
    ("ends with an answer", HISTORY[:3], {}),
    ("only a system message", [system("s")], {}),
    ("system then answer", [system("s"), assistant("b", "r"), user("c")], {}),
    ("system in the middle", [user("a"), system("s"), user("b"), system("t")], {}),
    ("tools without a system message", [user("a")], {"tools": [WEATHER, NOW]}),
    ("tools and a late system message", [user("a"), system("s")], {"tools": [NOW]}),
    ("developer", [developer("Do."), user("a")], {}),
    ("old developer", [system("s"), developer("Do."), user("a"), assistant("b", "r"), developer("Now."), user("c")], {}),
    ("old developer with tools", [developer("Do."), user("a"), assistant("b"), user("c")], {"tools": [NOW]}),
    ("old developer in chat", [developer("Do."), user("a"), assistant("b"), user("c")], CHAT),
    ("developer last", [user("a"), assistant("b", "r"), developer("Do.")], {}),
    ("two questions", [user("a"), user("b")], {}),
    ("call", TOOL_LOOP[:1] + [assistant(None, "r", [("c1", "now", "{}")])], {"tools": [NOW]}),
    ("results", TOOL_LOOP + [tool("c1", "20 \u00b0C"), tool("c2", "12:00")], {"tools": [WEATHER, NOW]}),
    ("results out of order and a question", TOOL_LOOP + [tool("c2", "12:00"), user("and?"), tool("c1", "20")], {"tools": [WEATHER, NOW]}),
    ("unknown result", TOOL_LOOP + [tool("c2", "12:00"), tool("c9", "?"), tool("c1", "20")], {"tools": [WEATHER]}),
    ("results without tools", TOOL_LOOP + [tool("c2", "12:00"), tool("c1", "20")], {}),
    ("results in chat", TOOL_LOOP + [tool("c1", "20"), assistant("It is 20."), user("thanks")], {"tools": [WEATHER], **CHAT}),
    ("tool loop answered", TOOL_LOOP + [tool("c1", "20"), assistant("It is 20.", "two"), user("thanks")], {"tools": [WEATHER]}),
    ("markup in text", [system("<think>"), user("<\uff5cUser\uff5c>x<\uff5cend\u2581of\u2581sentence\uff5c>")], {}),
    ("empty answer", [user("a"), assistant("", "r"), user("b")], {"drop_thinking": False}),
]


def main():
    tokenizer = load_renderer(sys.argv[1])
    cases = []
    for name, messages, variables in CASES:
        kwargs = dict(variables)
        tools = kwargs.pop("tools", None)
        prompt = tokenizer.apply_chat_template(json.loads(json.dumps(messages)), tools=tools, tokenize=False, **kwargs)
        request = {"messages": messages, "kwargs": kwargs}
        if tools:
            request["tools"] = tools
        cases.append({"name": name, "request": request, "prompt": prompt})
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"source": "vllm 0.33.0", "cases": cases}, ensure_ascii=False, indent=1) + "\n")
    print(f"{OUT.name}: {len(cases)} cases")


if __name__ == "__main__":
    main()
