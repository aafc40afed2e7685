#!/usr/bin/env python3
"""Writes tests/data/serve/statistics.json: made-up request times with the figures that numpy gives for them.

Needs numpy. The definitions are those of `vllm bench serve`'s result file.
"""
import json
import pathlib

import numpy as np

out = pathlib.Path(__file__).resolve().parent.parent / "tests/data/serve/statistics.json"
random = np.random.default_rng(20)
requests = []
for i in range(40):
    count = int(random.integers(1, 30))
    gaps = random.exponential(0.03, count - 1)
    ttft = float(random.gamma(2, 0.05))
    requests.append({
        "success": i % 9 != 4,
        "prompt_tokens": int(random.integers(1, 500)),
        "output_tokens": count,
        "start": float(random.uniform(0, 5)),
        "ttft": ttft,
        "latency": ttft + float(gaps.sum()),
        "itl": gaps.tolist(),
    })
duration = 6.25
limits = {"ttft": 0.11, "tpot": 0.031, "e2el": 0.7}

good = [r for r in requests if r["success"]]
tpots = [(r["latency"] - r["ttft"]) / (r["output_tokens"] - 1) for r in good if r["output_tokens"] > 1]
series = {
    "ttft": [r["ttft"] for r in good],
    "tpot": tpots,
    "itl": [x for r in good for x in r["itl"]],
    "e2el": [r["latency"] for r in good],
}


def within(r):
    tpot = (r["latency"] - r["ttft"]) / (r["output_tokens"] - 1) if r["output_tokens"] > 1 else 0.0
    return r["ttft"] <= limits["ttft"] and tpot <= limits["tpot"] and r["latency"] <= limits["e2el"]


begin = min(r["start"] for r in good)
token_times = np.concatenate([r["start"] + r["ttft"] + np.concatenate([[0.0], np.cumsum(r["itl"])]) for r in good])
seconds = np.floor(token_times - begin).astype(int)
open_in = np.zeros(64, int)
for r in good:
    open_in[int(r["start"] - begin):int(r["start"] + r["latency"] - begin) + 1] += 1
inputs = sum(r["prompt_tokens"] for r in good)
outputs = sum(r["output_tokens"] for r in good)
expected = {
    "duration": duration,
    "completed": len(good),
    "failed": len(requests) - len(good),
    "total_input_tokens": inputs,
    "total_output_tokens": outputs,
    "request_throughput": len(good) / duration,
    "request_goodput": sum(within(r) for r in good) / duration,
    "output_throughput": outputs / duration,
    "total_token_throughput": (inputs + outputs) / duration,
    "max_output_tokens_per_s": float(np.bincount(seconds).max()),
    "max_concurrent_requests": int(open_in.max()),
}
for key, values in series.items():
    ms = np.asarray(values) * 1000
    expected[f"mean_{key}_ms"] = float(np.mean(ms))
    expected[f"median_{key}_ms"] = float(np.median(ms))
    expected[f"std_{key}_ms"] = float(np.std(ms))
    for p in (25, 90, 99.9):
        expected[f"p{p}_{key}_ms"] = float(np.percentile(ms, p))
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(json.dumps({"duration": duration, "goodput_seconds": limits, "requests": requests, "expected": expected},
                          indent=1) + "\n")
