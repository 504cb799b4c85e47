#!/usr/bin/env python3
"""The tables of docs/research/learning.md as Markdown, out of their JSON: Benchmarks/learning/tables.py NAME ..."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent


def cell(row, key, digits, factor=1, unit=""):
    if row.get(key) is None:
        return "–"
    interval = row.get(f"{key}_interval")
    spread = f" ± {factor * interval:.{digits}f}" if interval is not None else ""
    return f"{factor * row[key]:.{digits}f}{spread}{unit}"


def table(rows):
    print("| | loss | accuracy | at the best threshold | samples |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        if "failed" in row:
            print(f"| {row['name']} | {row['failed'][0]} | | | |")
            continue
        print(f"| {row['name']} | {cell(row, 'loss', 4)} | {cell(row, 'accuracy', 1, 100, ' %')} | "
              f"{cell(row, 'accuracy_best_threshold', 1, 100, ' %')} | {row['samples']:,.0f} |")


def main():
    for name in sys.argv[1:] or sys.exit(__doc__):
        found = json.loads((HERE / f"{name}.json").read_text())
        for task, rows in found.get("tasks", {"": found.get("rows")}).items():
            machines = {row["machine"] for row in rows if row.get("machine")} or {found["machine"]}
            print(f"\n{name} {task} ({' and '.join(sorted(machines))}; seeds {rows[0]['seeds']})\n")
            table(rows)


if __name__ == "__main__":
    main()
