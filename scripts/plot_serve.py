#!/usr/bin/env python3
"""Draws latency against load from result files of `sabrewing bench serve --save-result` (or `vllm bench serve`).

Needs matplotlib. Files of one label make one curve, ordered by throughput:
  scripts/plot_serve.py --output load.png results/*.json
  scripts/plot_serve.py --label ours results/a-*.json --label other results/b-*.json
"""
import argparse
import json
import pathlib
import sys

METRICS = {"ttft": "time to first token", "tpot": "time per output token", "itl": "inter-token latency",
           "e2el": "end-to-end latency"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--label", action="append", nargs="+", default=[], metavar=("NAME", "FILE"), help="a curve of its own")
    parser.add_argument("--output", default="serve.png", help="png, svg or pdf (default: serve.png)")
    parser.add_argument("--metrics", default="ttft,tpot,e2el", help="of " + ", ".join(METRICS))
    options = parser.parse_args()
    curves = {label[0]: label[1:] for label in options.label}
    if options.files:
        curves[""] = options.files
    if not any(curves.values()):
        parser.error("no result files")
    metrics = options.metrics.split(",")
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        parser.error(f"unknown metric {unknown[0]}; known are {', '.join(METRICS)}")

    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(metrics), figsize=(5 * len(metrics), 4), squeeze=False)
    for label, files in curves.items():
        results = []
        for file in files:
            result = json.loads(pathlib.Path(file).read_text())
            if missing := [f"mean_{m}_ms" for m in metrics if f"mean_{m}_ms" not in result]:
                sys.exit(f"{file}: field \"{missing[0]}\" is missing")
            results.append(result)
        results.sort(key=lambda result: result["output_throughput"])
        load = [result["output_throughput"] for result in results]
        for axis, metric in zip(axes[0], metrics):
            name = label or results[0]["model_id"]
            line, = axis.plot(load, [result[f"median_{metric}_ms"] for result in results], "o-", label=f"{name}, median")
            high = sorted((key for key in results[0] if key.startswith("p") and key.endswith(f"_{metric}_ms")),
                          key=lambda key: float(key[1:].split("_")[0]))
            if high:
                axis.plot(load, [result[high[-1]] for result in results], "o:", color=line.get_color(),
                          label=f"{name}, {high[-1].split('_')[0].upper()}")
    for axis, metric in zip(axes[0], metrics):
        axis.set(xlabel="output tokens per second", ylabel="ms", title=METRICS[metric])
        axis.set_ylim(0, 1.05 * axis.get_ylim()[1])
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
