"""The chat page in headless Chromium, driven over a DevTools pipe. SABREWING_SCREENSHOT names a file for a picture."""
import base64
import http.client
import http.server
import json
import os
import shutil
import subprocess
import threading
import time

import pytest

from conftest import question

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    def __init__(self, folder):
        to_browser, self.write_end = os.pipe()
        self.read_end, from_browser = os.pipe()

        def pipes():
            os.dup2(to_browser, 103)
            os.dup2(from_browser, 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        self.process = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-pipe", f"--user-data-dir={folder}", "--window-size=900,760", "about:blank"],
            close_fds=False, preexec_fn=pipes, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.pending = b""
        self.count = 0
        self.events = []
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(domain + ".enable")

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def receive(self):
        while b"\0" not in self.pending:
            piece = os.read(self.read_end, 1 << 16)
            assert piece, "the browser has gone"
            self.pending += piece
        text, self.pending = self.pending.split(b"\0", 1)
        return json.loads(text)

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression, seconds=30):
        deadline = time.time() + seconds
        while not self.value(expression):
            assert time.time() < deadline, expression + "\n" + self.value("document.body.innerText")
            time.sleep(0.02)

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def type(self, text):
        self.value("document.getElementById('prompt').focus()")
        self.call("Input.insertText", text=text)

    def press(self, key, code):
        for kind in ("rawKeyDown", "char", "keyUp") if key == "Enter" else ("rawKeyDown", "keyUp"):
            text = {"text": "\r"} if kind == "char" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def picture(self, file):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(file, "wb") as out:
            out.write(base64.b64decode(data))

    def complaints(self):
        """Everything that the page or its content policy reported."""
        return [event["params"] for event in self.events
                if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
                and event["params"].get("entry", {}).get("level") != "verbose"]

    def requested(self):
        return [event["params"]["request"]["url"] for event in self.events
                if event.get("method") == "Network.requestWillBeSent"]

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def browser(tmp_path):
    if not CHROMIUM:
        pytest.fail("no chromium in PATH")
    browser = Browser(tmp_path)
    yield browser
    browser.close()


class Pacer(http.server.ThreadingHTTPServer):
    """Forwards to a server; every event of a stream waits until the test lets it go."""
    daemon_threads = True

    def __init__(self, port):
        self.server_port_behind = port
        self.allowed = threading.Semaphore(0)
        super().__init__(("127.0.0.1", 0), Forward)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def let_go(self, events):
        self.allowed.release(events)


class Forward(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        behind = http.client.HTTPConnection("127.0.0.1", self.server.server_port_behind)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        behind.request(self.command, self.path, body, {"Content-Type": self.headers.get("Content-Type", "")})
        answer = behind.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.end_headers()
        if not answer.getheader("Content-Type", "").startswith("text/event-stream"):
            self.wfile.write(answer.read())
            return
        while line := answer.readline():
            if line.startswith(b"data: "):
                self.server.allowed.acquire()
            self.wfile.write(line)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def pacer(qwen):
    pacer = Pacer(qwen.port)
    yield pacer
    pacer.let_go(1 << 20)
    pacer.shutdown()
    pacer.server_close()


LAST = "[...document.querySelectorAll('.turn.assistant')].at(-1)"


def test_sends_a_message_and_shows_the_streamed_answer(pacer, browser):
    messages, content, reasoning = question()
    browser.open(pacer.url + "/")
    browser.wait("document.getElementById('model').textContent === 'mini-qwen3'")
    browser.value("document.getElementById('temperature').value = '0'")
    browser.type(messages[0]["content"])
    browser.press("Enter", 13)
    # The answer grows with what has come, before it is whole.
    written = f"['.thought', '.content'].reduce((sum, part) => sum + ({LAST}?.querySelector(part).textContent.length ?? 0), 0)"
    length = 0
    for _ in range(6):
        pacer.let_go(5)
        browser.wait(f"{written} > {length}")
        length = browser.value(written)
        assert not browser.value(f"{LAST}.dataset.done")
    pacer.let_go(1 << 20)
    browser.wait(f"{LAST}?.dataset.done")
    assert browser.value("document.querySelector('.turn.user').textContent") == messages[0]["content"]
    first_line, last_line = content.split("\n")
    shown = browser.value(f"{LAST}.querySelector('.content').innerText")
    assert first_line in shown and last_line.strip("# ") in shown
    assert browser.value(f"{LAST}.querySelector('.thought').textContent").strip() == reasoning
    assert browser.value(f"{LAST}.querySelector('details').open") is False
    assert "tokens/s" in browser.value(f"{LAST}.querySelector('.note').textContent")
    assert browser.value(written) > length
    assert all(url.startswith((pacer.url, "data:", "about:")) for url in browser.requested())
    if os.environ.get("SABREWING_SCREENSHOT"):
        browser.value(f"{LAST}.querySelector('details').open = true")
        browser.picture(os.environ["SABREWING_SCREENSHOT"])
    browser.type("And in 2 more years?")
    browser.press("Enter", 13)
    browser.wait("document.querySelectorAll('.turn.assistant').length === 2 && " + LAST + ".dataset.done")
    assert browser.complaints() == []


def test_escape_stops_the_answer(qwen, browser):
    browser.open(qwen.url + "/")
    browser.wait("model")
    browser.value("""const real = fetch; window.fetch = (url, options) => { if (options.body)
        options.body = JSON.stringify({...JSON.parse(options.body), ignore_eos: true, max_tokens: 1900});
        return real(url, options); }""")
    browser.type("Count.")
    browser.press("Enter", 13)
    browser.wait(f"{LAST}?.querySelector('.note').textContent.includes('tokens/s')")
    assert browser.value("document.getElementById('stop').hidden") is False
    browser.press("Escape", 27)
    browser.wait(f"{LAST}.dataset.done")
    assert "stopped" in browser.value(f"{LAST}.querySelector('.note').textContent")
    assert qwen.settle()["sabrewing:kv_cache_blocks_used"] == 0


def test_answers_are_never_html(qwen, browser):
    browser.open(qwen.url + "/")
    browser.wait("model")
    hostile = "<img src=x onerror=window.hit=1> <script>window.hit=1</script> **<b>bold</b>** `<i>`\\n```\\n<u>\\n```\\n- <a href=javascript:1>"
    browser.value(f'render(document.getElementById("talk"), "{hostile}")')
    assert browser.value("document.querySelectorAll('#talk :is(img, script, b, i, u, a)').length") == 0
    assert browser.value("document.querySelector('#talk strong').textContent") == "<b>bold</b>"
    assert browser.value("document.querySelector('#talk pre').textContent") == "<u>"
    assert browser.value("document.querySelector('#talk li').textContent") == "<a href=javascript:1>"
    # Even injected on purpose, the policy keeps it from running.
    browser.value("document.getElementById('talk').innerHTML = '<img src=/absent onerror=\"window.hit=1\">'")
    time.sleep(0.3)
    assert browser.value("window.hit") is None


def test_asks_for_the_key(locked, browser):
    browser.open(locked.url + "/")
    browser.wait("document.getElementById('model').textContent.includes('API key')")
    browser.value("document.getElementById('open').click()")
    browser.value("document.getElementById('key').focus()")
    browser.call("Input.insertText", text="a-long-secret")
    browser.press("Tab", 9)
    browser.wait("document.getElementById('model').textContent === 'mini-qwen3'")


def test_fits_a_phone(qwen, browser):
    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=640, deviceScaleFactor=2, mobile=True)
    browser.open(qwen.url + "/")
    browser.value("document.getElementById('open').click()")
    assert browser.value("document.documentElement.scrollWidth") <= 360
    assert browser.value("document.getElementById('prompt').getBoundingClientRect().bottom") <= 640
