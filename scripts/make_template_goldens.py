#!/usr/bin/env python3
"""Renders chat templates with transformers' own renderer and writes what it gives as goldens.

Needs transformers and jinja2. Writes to tests/data/chat_template:
  snippets.json   contexts, and rows of [template, context index, output or null for an error]
  templates.json  templates/*.jinja over conversations.json through apply_chat_template

    make_template_goldens.py                     write the goldens
    make_template_goldens.py --dump SEED COUNT   print random snippets as JSON instead
"""

import argparse
import contextlib
import datetime
import json
import random
import signal
import sys
import warnings
from pathlib import Path

import transformers
from template_snippets import CONTEXTS, HAND_WRITTEN, SnippetGenerator
from transformers.utils import chat_template_utils

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests/data/chat_template"
SEED = 20
RANDOM_SNIPPETS = 7000
MAX_OUTPUT = 400


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 3, 7, 14, 5, 9, 123)


chat_template_utils.datetime = FixedTime


class Timeout(Exception):
    pass


@contextlib.contextmanager
def time_limit(seconds):
    def stop(*_):
        raise Timeout

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def render(template, context):
    """The output, or None where the template fails."""
    try:
        with time_limit(5):
            return chat_template_utils._cached_compile_jinja_template(template).render(**context)
    except Timeout:
        raise
    except Exception:  # noqa: BLE001  every kind of error counts as one
        return None


def repeatable(output):
    """Addresses, random choices and lone surrogates cannot be compared."""
    if output is None:
        return True
    if any(mark in output.lower() for mark in (" at 0x", "<function", "<built-in", "<bound method")):
        return False
    return not any(0xD800 <= ord(c) <= 0xDFFF for c in output)


def random_rows(seed, count, limit):
    generator = SnippetGenerator(random.Random(seed))
    rows, seen = [], set()
    while len(rows) < count:
        template = generator.template()
        index = generator.random.randrange(len(CONTEXTS))
        if template in seen or len(template) > 400:
            continue
        seen.add(template)
        try:
            output = render(template, CONTEXTS[index])
        except Timeout:
            continue
        # Errors are compared too, but should not crowd out values.
        if output is None and generator.random.random() < 0.6:
            continue
        if not repeatable(output) or (output is not None and len(output) > limit):
            continue
        rows.append([template, index, output])
    return rows


def write_snippets():
    rows = []
    for template in HAND_WRITTEN:
        for index in range(len(CONTEXTS)) if "messages" in template else (0,):
            output = render(template, CONTEXTS[index])
            assert repeatable(output), template
            rows.append([template, index, output])
    rows += random_rows(SEED, RANDOM_SNIPPETS, MAX_OUTPUT)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    text = '{"contexts": %s,\n"rows": [\n%s\n]}\n' % (json.dumps(CONTEXTS, ensure_ascii=False), lines)
    (DATA / "snippets.json").write_text(text)
    errors = sum(row[2] is None for row in rows)
    print(f"{len(rows)} snippets, {errors} of them errors")


def write_templates():
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=__import__("tokenizers").Tokenizer(__import__("tokenizers").models.BPE()),
        bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    conversations = json.loads((DATA / "conversations.json").read_text())
    rows = []
    for path in sorted((DATA / "templates").glob("*.jinja")):
        tokenizer.chat_template = path.read_text()
        for name, case in conversations.items():
            try:
                output = tokenizer.apply_chat_template(
                    case["messages"], tools=case.get("tools"), documents=case.get("documents"), tokenize=False,
                    add_generation_prompt=case.get("add_generation_prompt", False), **case.get("kwargs", {}))
            except Exception:  # noqa: BLE001
                output = None
            rows.append([path.name, name, output])
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (DATA / "templates.json").write_text("[\n%s\n]\n" % lines)
    errors = sum(row[2] is None for row in rows)
    print(f"{len(rows)} conversations, {errors} of them errors")


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dump", nargs=2, type=int, metavar=("SEED", "COUNT"))
    arguments = parser.parse_args()
    if arguments.dump:
        rows = random_rows(*arguments.dump, 4000)
        json.dump([{"template": t, "context": CONTEXTS[i], "expected": e} for t, i, e in rows], sys.stdout)
        return
    write_snippets()
    write_templates()


if __name__ == "__main__":
    main()
