"""The data of the tasks: tests/acceptance/word_problems.jsonl, with wrong results beside the right one."""
import json
import pathlib

import datasets

FILE = pathlib.Path(__file__).resolve().parents[2] / "acceptance/word_problems.jsonl"


def load(**_):
    rows = []
    for i, line in enumerate(FILE.read_text().splitlines()):
        row = json.loads(line)
        work, number = row["answer"].rsplit("#### ", 1)
        results = [str(int(number) + offset) for offset in (1, -2, 10)]
        results.insert(i % 4, number)
        rows.append({**row, "choices": [f"{work}#### {result}" for result in results], "gold": i % 4})
    return {"test": datasets.Dataset.from_list(rows)}
