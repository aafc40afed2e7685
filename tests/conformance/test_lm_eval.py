"""lm-evaluation-harness against the server, beside `sabrewing eval` on the same questions."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

from conftest import BINARY, ROOT

HERE = pathlib.Path(__file__).resolve().parent
TASK = ROOT / "tests/acceptance/word_problems.jsonl"
COUNT = len(TASK.read_text().splitlines())


def lm_eval(folder, server, kind, route, task, *options):
    command = [sys.executable, "-m", "lm_eval", "--model", kind, "--include_path", str(HERE / "lm_eval_tasks"),
               "--tasks", task, "--model_args", f"model={server.model},base_url={server.url}{route},num_concurrent=8,max_length=2048",
               "--output_path", str(folder), *options]
    environment = {**os.environ, "OPENAI_API_KEY": "none", "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1",
                   "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    file, = folder.rglob("results_*.json")
    return json.loads(file.read_text())["results"][task]


def own(*arguments):
    done = subprocess.run([BINARY, "eval", *arguments, "--task", str(TASK), "--json"], capture_output=True, text=True,
                          timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["results"]["word_problems"]


@pytest.fixture(scope="module")
def own_score():
    return own(str(ROOT / "models/mini-qwen3"), "--precision", "exact")


def same_within_one_question(one, other):
    for key in ("exact_match,strict-match", "exact_match,flexible-extract"):
        assert abs(one[key] - other[key]) <= 1.001 / COUNT, (key, one[key], other[key])


def test_chat_completions(qwen, own_score, tmp_path):
    score = lm_eval(tmp_path, qwen, "local-chat-completions", "/v1/chat/completions", "word_problems", "--apply_chat_template")
    print(score)
    assert score["exact_match,strict-match"] >= 0.9
    same_within_one_question(score, own_score)


def test_completions(qwen, own_score, tmp_path):
    """The tokenizer is the server's: prompts go as token ids."""
    score = lm_eval(tmp_path, qwen, "local-completions", "/v1/completions", "word_problems_raw")
    same_within_one_question(score, own_score)


def test_scored_choices(qwen, tmp_path):
    score = lm_eval(tmp_path, qwen, "local-completions", "/v1/completions", "word_problems_choice")
    assert score["acc,none"] >= 0.95


def test_own_evaluation_of_a_server(qwen, own_score):
    same_within_one_question(own("--base-url", qwen.url), own_score)
