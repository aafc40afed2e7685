"""Everything beside the answers: models, keys, health, tokens, metrics, malformed bodies."""
import re
import signal
import threading
import time

import openai
import pytest
import requests

from conftest import Server, question, reference


def test_models(qwen):
    models = qwen.openai.models.list().data
    assert [model.id for model in models] == ["mini-qwen3"] and models[0].object == "model"
    assert models[0].max_model_len == 2048


@pytest.mark.parametrize("path", ["/health", "/ready", "/ping", "/version", "/server_info"])
def test_small_routes(qwen, path):
    assert qwen.get(path).status_code == 200


def test_server_info_names_formats_and_kernels(gpt_oss):
    text = gpt_oss.get("/server_info").text
    assert "mxfp4" in text.lower()
    for module in gpt_oss.get("/server_info").json()["modules"]:
        assert module["format"] and module["kernel"]


@pytest.mark.parametrize("model", ["qwen", "gpt_oss"])
def test_tokenize(request, model):
    server = request.getfixturevalue(model)
    case = reference(server.model)[0]
    answer = server.post("/tokenize", {"prompt": case["prompt"], "add_special_tokens": False}).json()
    assert answer["tokens"] == case["prompt_ids"]
    assert answer["count"] == len(case["prompt_ids"]) and answer["max_model_len"] == 2048
    assert server.post("/detokenize", {"tokens": case["prompt_ids"]}).json()["prompt"] == case["prompt"]


def test_tokenize_messages(qwen):
    case = reference("mini-qwen3")[0]
    assert qwen.post("/tokenize", {"messages": case["messages"]}).json()["tokens"] == case["prompt_ids"]


def test_tokenizer_info(qwen):
    info = qwen.get("/tokenizer_info").json()
    assert "im_start" in info["chat_template"] and info["eos_token"] == "<|im_end|>"


def test_metrics_are_prometheus_text(qwen):
    qwen.openai.chat.completions.create(model=qwen.model, messages=question()[0], max_completion_tokens=3)
    response = qwen.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    typed = {}
    for line in response.text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in typed, f"{name} is declared twice"
            typed[name] = kind
        elif not line.startswith("#") and line:
            match = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^{}]*\})? (\S+)', line)
            assert match, line
            float(match[3])
            base = re.sub(r"_(bucket|sum|count)$", "", match[1])
            assert match[1] in typed or typed.get(base) == "histogram", line
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
                 "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total",
                 "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds",
                 "vllm:e2e_request_latency_seconds", "vllm:num_preemptions_total"):
        assert name in typed, name
    assert 'model_name="mini-qwen3"' in response.text


def test_metrics_count(qwen):
    before = qwen.settle()
    qwen.openai.completions.create(model=qwen.model, prompt=[5, 6, 7], max_tokens=9, temperature=0, extra_body={"ignore_eos": True})
    after = qwen.settle()
    assert after["vllm:prompt_tokens_total"] - before["vllm:prompt_tokens_total"] == 3
    assert after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] == 9
    assert after["vllm:request_success_total"] - before["vllm:request_success_total"] == 1


def test_key(locked):
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=locked.url + "/v1", api_key="a-long-secreT", max_retries=0).models.list()
    assert locked.openai.models.list().data
    for path in ("/v1/models", "/metrics", "/version", "/server_info", "/tokenizer_info"):
        response = locked.get(path)
        assert response.status_code == 401, path
        assert response.json()["error"]["message"]
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"):
        assert locked.post(path, {}).status_code == 401, path
        assert locked.post(path, {}, headers={"Authorization": "Bearer "}).status_code == 401, path
    assert locked.get("/health").status_code == 200
    assert locked.openai.completions.create(model=locked.model, prompt="x", max_tokens=1).choices


@pytest.mark.parametrize("body,why", [
    (b"", "empty"), (b"{", "cut"), (b"[]", "array"), (b"null", "null"), (b"{\"prompt\": \"\xff\"}", "no UTF-8"),
    (b"{\"prompt\": \"\\ud800\"}", "lone surrogate"), (b"[" * 100000, "deep"), (b"{\"prompt\": " * 5000, "deep objects"),
    (b"{\"prompt\": \"a\"} x", "more after the end"), (b"{\"prompt\": 1e999, \"max_tokens\": 1}", "number out of range"),
])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_malformed_bodies(qwen, path, body, why):
    response = requests.post(qwen.url + path, data=body, headers={"Content-Type": "application/json"}, timeout=60)
    assert response.status_code == 400, why
    assert response.json()["error"]["message"], why


def test_unknown_routes_and_methods(qwen):
    response = qwen.get("/v1/absent")
    assert response.status_code == 404 and response.json()["error"]["message"]
    assert qwen.get("/v1/chat/completions").status_code == 405
    assert qwen.get("/../../etc/passwd").status_code in (400, 404)


def test_no_cors_unless_asked_for(qwen):
    response = qwen.get("/v1/models", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in response.headers


def test_chat_page(locked):
    response = locked.get("/")
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy
    assert not re.search(r'(src|href)="?(https?:)?//', response.text), "the page loads nothing from elsewhere"


def test_drains_on_sigterm(tmp_path):
    """A request under way is answered to its end; new ones are turned away; then the process ends with 0."""
    server = Server("mini-qwen3", tmp_path / "log")
    result = {}

    def ask():
        result["answer"] = server.openai.completions.create(
            model=server.model, prompt="x", max_tokens=1500, temperature=0, extra_body={"ignore_eos": True})

    thread = threading.Thread(target=ask)
    thread.start()
    while server.metrics()["vllm:num_requests_running"] == 0:
        time.sleep(0.005)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    with pytest.raises((requests.ConnectionError, AssertionError)):
        response = server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})
        assert response.status_code != 503
        pytest.fail("answered while draining")
    thread.join(60)
    assert result["answer"].usage.completion_tokens == 1500
    assert server.process.wait(30) == 0


def test_sigterm_under_load(tmp_path):
    """Every stream under way is answered to its end; a second signal does not wait for them."""
    for signals in (1, 2):
        server = Server("mini-qwen3", tmp_path / "log")
        ends = []

        def ask():
            body = {"prompt": "x", "max_tokens": 300 if signals == 1 else 2000, "ignore_eos": True, "stream": True}
            try:
                ends.append(server.post("/v1/completions", body).text.endswith("data: [DONE]\n\n"))
            except requests.exceptions.RequestException:
                ends.append(False)

        threads = [threading.Thread(target=ask) for _ in range(32)]
        for thread in threads:
            thread.start()
        while server.metrics()["vllm:num_requests_running"] < len(threads):
            time.sleep(0.005)
        for _ in range(signals):
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert server.process.wait(60 if signals == 1 else 10) == 0
        for thread in threads:
            thread.join(60)
        assert ends == [signals == 1] * len(threads)


def test_two_servers_on_one_port(qwen, tmp_path):
    import subprocess
    from conftest import BINARY, ROOT
    second = subprocess.run([BINARY, "serve", str(ROOT / "models/mini-qwen3"), "--port", str(qwen.port)],
                            capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1 and f"cannot listen on 127.0.0.1:{qwen.port}: Address already in use" in second.stderr
