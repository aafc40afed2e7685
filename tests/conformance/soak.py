#!/usr/bin/env python3
"""Many streams with random aborts against a running server; needs no packages.

Every answer that is not aborted must be whole, and equal requests must get equal answers whatever else runs. At the
end no request and no cache block may be left, and the server's memory must not have grown.
"""
import argparse
import asyncio
import json
import pathlib
import random
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Soak:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.cases = json.loads((ROOT / "models" / options.model / "reference.json").read_text())["cases"]
        self.answers = {}
        self.failures = []
        self.ttft = []
        self.done = self.aborted = self.tokens = 0
        self.memory = []

    def plan(self):
        case = self.random.randrange(len(self.cases))
        stream = self.random.random() < 0.8
        body = {"prompt": self.cases[case]["prompt_ids"], "max_tokens": min(self.random.choice([1, 4, 16, 40]), self.options.max_tokens), "temperature": 0,
                "stream": stream}
        abort = self.random.random() < self.options.aborts
        # Before the answer, after its head, or after some events; plainly or with a reset.
        at = self.random.choice(["sent", "half sent", "head", 1, 3, 9]) if abort else None
        return case, body, at, self.random.random() < 0.5

    async def one(self, number):
        case, body, abort, reset = self.plan()
        data = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        begin = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.options.port, limit=1 << 20)
        try:
            if abort == "half sent":
                writer.write(head.encode() + data[:len(data) // 2])
                await writer.drain()
                return True
            writer.write(head.encode() + data)
            await writer.drain()
            if abort == "sent":
                await asyncio.sleep(self.random.random() * 0.05)
                return True
            text = (await reader.readuntil(b"\r\n\r\n")).decode()
            if " 200 " not in text.split("\r\n")[0]:
                raise RuntimeError(text.split("\r\n")[0] + " " + (await reader.read(500)).decode(errors="replace"))
            if abort == "head":
                return True
            answer = await (self.events(reader, abort, begin) if body["stream"] else self.plain(reader, text))
            if answer is None:
                return True
            key = (case, body["max_tokens"])
            if self.answers.setdefault(key, answer) != answer:
                raise RuntimeError(f"request {number}: {answer!r} instead of {self.answers[key]!r}")
            return False
        finally:
            if abort is not None and reset:
                writer.transport.abort()
            else:
                writer.close()

    async def plain(self, reader, head):
        length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        self.tokens += answer["usage"]["completion_tokens"]
        return answer["choices"][0]["text"]

    async def events(self, reader, abort, begin):
        text, count = "", 0
        while True:
            line = await reader.readline()
            if not line:
                raise RuntimeError("the stream ended early")
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                self.tokens += count
                return text
            event = json.loads(data)
            if "error" in event:
                raise RuntimeError(data.decode())
            count += 1
            if count == 1:
                self.ttft.append(time.perf_counter() - begin)
            text += event["choices"][0]["text"]
            if count == abort:
                return None

    async def worker(self):
        while self.next < self.options.requests:
            number = self.next
            self.next += 1
            try:
                if await asyncio.wait_for(self.one(number), 120):
                    self.aborted += 1
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self.done += 1

    async def get(self, path):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.options.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
        return text

    def resident(self):
        for line in pathlib.Path(f"/proc/{self.options.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024

    async def watch(self):
        shown = time.time()
        while True:
            self.memory.append((self.done, self.resident()))
            if time.time() - shown > 20:
                shown = time.time()
                print(f"  {self.done} requests, {self.memory[-1][1]:.1f} MiB", flush=True)
            await asyncio.sleep(0.5)

    async def gauges(self):
        result = {}
        for line in (await self.get("/metrics")).splitlines():
            for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "sabrewing:kv_cache_blocks_used"):
                if line.startswith(name):
                    result[name] = float(line.split()[-1])
        return result

    async def run(self):
        self.next = 0
        begin = time.perf_counter()
        watch = asyncio.create_task(self.watch())
        await asyncio.gather(*[self.worker() for _ in range(self.options.streams)])
        seconds = time.perf_counter() - begin
        for _ in range(100):
            left = await self.gauges()
            if not any(left.values()):
                break
            await asyncio.sleep(0.1)
        watch.cancel()
        self.memory.append((self.done, self.resident()))

        early = max(m for done, m in self.memory if done <= max(self.options.requests // 4, self.memory[0][0]))
        late = max(m for _, m in self.memory)
        ttft = sorted(self.ttft)
        checks = [
            (not self.failures, f"{self.done} requests, {self.options.streams} at once, {self.aborted} aborted: "
                                f"{len(self.failures)} failures"),
            (len(left) == 3 and not any(left.values()), f"left at the end: {left}"),
            (late <= early * 1.05 + 8, f"memory: {self.memory[0][1]:.1f} MiB at the start, {early:.1f} MiB at most in the first "
                                       f"quarter, {late:.1f} MiB at most in all, {self.memory[-1][1]:.1f} MiB at the end"),
        ]
        for held, text in checks:
            print(("ok    " if held else "FAIL  ") + text)
        for failure in self.failures[:5]:
            print("      | " + failure[:300])
        print(f"      {seconds:.0f} s, {self.done / seconds:.0f} requests/s, {self.tokens / seconds:.0f} tokens/s of answers taken to "
              f"their end")
        if ttft:
            print(f"      time to first token: median {1000 * ttft[len(ttft) // 2]:.0f} ms, worst {1000 * ttft[-1]:.0f} ms")
        return all(held for held, _ in checks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True, help="of the server, for its memory")
    parser.add_argument("--model", default="mini-qwen3-moe", help="folder below models/ whose prompts are sent")
    parser.add_argument("--requests", type=int, default=20000)
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--aborts", type=float, default=0.3, help="share of requests that are broken off")
    parser.add_argument("--max-tokens", type=int, default=40, help="of the longest answers")
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(0 if asyncio.run(Soak(parser.parse_args()).run()) else 1)
