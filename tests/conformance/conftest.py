"""Servers for the tests. SABREWING_BINARY names the binary; each model is served once, in exact arithmetic, by the
parsers that fit it."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import anthropic
import openai
import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SABREWING_BINARY", str(ROOT / "build/release/bin/sabrewing"))
OPTIONS = {
    "mini-qwen3": ["--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3"],
    "mini-qwen3-moe": [],
    "mini-gpt-oss": ["--enable-auto-tool-choice", "--tool-call-parser", "openai", "--reasoning-parser", "openai_gptoss"],
}


class Server:
    """A running `sabrewing serve`."""

    def __init__(self, model, log, *options, api_key=None):
        self.model = model
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.api_key = api_key or "none"
        if api_key:
            options += ("--api-key", api_key)
        command = [BINARY, "serve", str(ROOT / "models" / model), "--port", str(self.port), "--served-model-name", model,
                   "--precision", "exact", "--max-model-len", "2048", *options]
        self.log = open(log, "w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.time() + 60
        while True:
            try:
                if requests.get(self.url + "/health", timeout=5).ok:
                    return
            except requests.ConnectionError:
                pass
            if self.process.poll() is not None or time.time() > deadline:
                self.log.seek(0)
                raise RuntimeError(f"{' '.join(command)} did not start:\n{self.log.read()}")
            time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "none within 30 s of SIGTERM"
        self.log.seek(0)
        assert code == 0, f"exit status {code}:\n{self.log.read()[-3000:]}"

    @property
    def openai(self):
        return openai.OpenAI(base_url=self.url + "/v1", api_key=self.api_key, max_retries=0, timeout=60)

    @property
    def async_openai(self):
        return openai.AsyncOpenAI(base_url=self.url + "/v1", api_key=self.api_key, max_retries=0, timeout=60)

    @property
    def anthropic(self):
        return anthropic.Anthropic(base_url=self.url, api_key=self.api_key, max_retries=0, timeout=60)

    def post(self, path, body, **arguments):
        return requests.post(self.url + path, json=body, timeout=60, **arguments)

    def get(self, path, **arguments):
        return requests.get(self.url + path, timeout=60, **arguments)

    def metrics(self):
        """{sample name without labels: sum over its label sets}"""
        result = {}
        for line in self.get("/metrics").text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.split("{")[0].split(" ")[0], float(line.rsplit(" ", 1)[1])
                result[name] = result.get(name, 0) + value
        return result

    def settle(self):
        """Waits until no request is left and returns the metrics of then."""
        deadline = time.time() + 20
        while True:
            now = self.metrics()
            idle = now["vllm:num_requests_running"] == now["vllm:num_requests_waiting"] == 0
            if idle or time.time() > deadline:
                return now
            time.sleep(0.02)


def server_fixture(model):
    @pytest.fixture(scope="session")
    def fixture(tmp_path_factory):
        server = Server(model, tmp_path_factory.mktemp(model) / "log", *OPTIONS[model])
        yield server
        left = server.settle()
        server.stop()
        assert left["sabrewing:kv_cache_blocks_used"] == 0

    return fixture


qwen = server_fixture("mini-qwen3")
moe = server_fixture("mini-qwen3-moe")
gpt_oss = server_fixture("mini-gpt-oss")


@pytest.fixture(scope="session")
def locked(tmp_path_factory):
    """A server with an API key."""
    server = Server("mini-qwen3", tmp_path_factory.mktemp("locked") / "log", api_key="a-long-secret")
    yield server
    server.stop()


def reference(model, kind="cases"):
    """What transformers computed for the checkpoint in float32: prompts, greedy answers, logits."""
    return json.loads((ROOT / "models" / model / "reference.json").read_text())[kind]


def question(model="mini-qwen3", index=0):
    """Messages of one case, the content and the reasoning that answer it."""
    case = reference(model)[index]
    text = case["greedy_text"]
    if model == "mini-gpt-oss":
        reasoning = text.split("<|message|>")[1].split("<|end|>")[0]
        content = text.split("<|message|>")[2].split("<|return|>")[0]
    else:
        reasoning = text.split("<think>")[1].split("</think>")[0]
        content = text.split("</think>")[1].split("<|im_end|>")[0]
    return case["messages"], content.strip(), reasoning.strip()


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a town",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["town", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function",
         "function": {"name": "get_time",
                      "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}
