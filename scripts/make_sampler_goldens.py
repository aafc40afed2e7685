#!/usr/bin/env python3
"""Writes tests/data/sampler/goldens.json: what transformers' logits processors leave of random logits.

Needs torch, transformers and numpy. Presence and frequency penalties, which transformers does not have,
follow the formula of OpenAI's API reference (logit - count * frequency - (count > 0) * presence) and sit
between the repetition penalty and the temperature. Cases whose outcome hangs on the last bits of a
threshold, or on the order of equal logits, are drawn again.
"""

import json
import pathlib

import numpy
import torch
import transformers
from transformers.generation import logits_process as processors

SINGLE = [
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 1000},
    {"top_p": 0.05},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"top_p": 0.9999},
    {"min_p": 0.02},
    {"min_p": 0.7},
    {"min_p": 1.0},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"presence_penalty": 1.5},
    {"presence_penalty": -2.0},
    {"frequency_penalty": 0.7},
    {"frequency_penalty": -0.4},
]
COMBINED = [
    {"temperature": 0.7, "top_k": 20, "top_p": 0.8},
    {"temperature": 1.4, "top_k": 40, "top_p": 0.9, "min_p": 0.1},
    {"temperature": 0.6, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.1},
    {"presence_penalty": 1.2, "frequency_penalty": 0.3, "temperature": 0.9, "top_p": 0.7},
    {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.5, "temperature": 0.8,
     "top_k": 15, "top_p": 0.9, "min_p": 0.05},
]
MARGIN = 1e-5


def process(logits, prompt, answer, params):
    """The processed scores, or None where the outcome is ambiguous."""
    scores = torch.tensor(logits)[None]
    history = torch.tensor(prompt + answer, dtype=torch.long)[None]
    if "repetition_penalty" in params and history.numel() > 0:
        scores = processors.RepetitionPenaltyLogitsProcessor(params["repetition_penalty"])(history, scores)
    counts = numpy.bincount(numpy.array(answer, dtype=numpy.int64), minlength=len(logits)).astype(numpy.float32)
    plain = scores[0].numpy()
    plain = plain - counts * numpy.float32(params.get("frequency_penalty", 0))
    plain = plain - (counts > 0).astype(numpy.float32) * numpy.float32(params.get("presence_penalty", 0))
    scores = torch.tensor(plain)[None]
    if "temperature" in params:
        scores = processors.TemperatureLogitsWarper(params["temperature"])(history, scores)
    if "top_k" in params:
        scores = processors.TopKLogitsWarper(params["top_k"])(history, scores)
    if "top_p" in params:
        ordered = numpy.sort(scores[0].double().softmax(-1).numpy())
        below = numpy.cumsum(ordered)
        cut = int(numpy.searchsorted(below, 1 - params["top_p"], side="right"))
        near = numpy.abs(below[ordered > 0] - (1 - params["top_p"])).min() < MARGIN
        if near or (0 < cut < len(ordered) and ordered[cut] == ordered[cut - 1]):
            return None
        scores = processors.TopPLogitsWarper(params["top_p"])(history, scores)
    if "min_p" in params:
        odds = (scores[0].double() - scores[0].double().max()).exp()
        if params["min_p"] < 1 and (odds / params["min_p"] - 1).abs().min() < MARGIN:
            return None
        scores = processors.MinPLogitsWarper(params["min_p"])(history, scores)
    return scores[0]


def make_case(random, params, vocabulary, spread, decimals):
    while True:
        logits = numpy.round(random.normal(0, spread, vocabulary), decimals).astype(numpy.float32)
        prompt = random.integers(0, vocabulary, 12).tolist()
        answer = random.integers(0, vocabulary, 9).tolist()
        answer += answer[:3] + answer[:1]
        scores = process(logits, prompt, answer, params)
        if scores is None:
            continue
        probabilities = scores.double().softmax(-1).numpy()
        kept = numpy.flatnonzero(numpy.isfinite(scores.numpy())).tolist()
        return {
            "params": params,
            "logits": [float(str(x)) for x in logits],
            "prompt": prompt,
            "answer": answer,
            "ids": kept,
            "probabilities": [float(f"{probabilities[i]:.7g}") for i in kept],
        }


def main():
    random = numpy.random.default_rng(20)
    cases = [make_case(random, params, vocabulary, spread, 4)
             for params in SINGLE + COMBINED for vocabulary, spread in ((17, 3), (90, 1.2))]
    # Equal logits at the threshold: all of them stay.
    cases += [make_case(random, {"top_k": k}, 60, 3, 0) for k in (1, 5, 30)]
    cases += [make_case(random, {"min_p": 0.3}, 60, 3, 1)]
    path = pathlib.Path(__file__).resolve().parent.parent / "tests/data/sampler/goldens.json"
    text = json.dumps({"transformers": transformers.__version__, "cases": cases}, separators=(",", ":"))
    path.write_text(text.replace('{"params"', '\n{"params"') + "\n")
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
