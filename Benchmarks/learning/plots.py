#!/usr/bin/env python3
"""The plots of docs/research/learning.md, out of the tables' JSON: Benchmarks/learning/plots.py (needs matplotlib from PyPI).

Writes docs/plots/NAME.svg.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
OUTPUT = HERE.parent.parent / "docs/plots"
plt.rcParams.update({"svg.hashsalt": "onebyte", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True})


def read(name):
    return json.loads((HERE / f"{name}.json").read_text())


def save(figure, name):
    OUTPUT.mkdir(exist_ok=True)
    # The date is left out, so that the same tables give the same file.
    figure.savefig(OUTPUT / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def bars(axis, rows, key="loss"):
    """Draws a bar with its interval for each row that has a value."""
    rows = [row for row in rows if row.get(key) is not None]
    names = [row["name"] for row in rows]
    axis.barh(names, [row[key] for row in rows], xerr=[row.get(f"{key}_interval") or 0 for row in rows], color="#4c78a8", ecolor="#333333", capsize=2)
    axis.invert_yaxis()
    values = [row[key] for row in rows]
    spread = max(row.get(f"{key}_interval") or 0 for row in rows)
    axis.set_xlim(max(0, min(values) - spread - 0.02), max(values) + spread + 0.01)


def tasks(name, title):
    table = read(name)["tasks"]
    figure, axes = plt.subplots(len(table), 1, figsize=(7, sum(0.28 * len(rows) + 0.6 for rows in table.values())), squeeze=False,
                                gridspec_kw={"height_ratios": [len(rows) + 1 for rows in table.values()]})
    for axis, (task, rows) in zip(axes[:, 0], table.items()):
        bars(axis, rows)
        axis.set_title(f"{title}: {task}", loc="left")
    axes[-1, 0].set_xlabel("held-out loss (mean, 95 % interval over seeds)")
    save(figure, name)


def rate():
    # Runs that diverged have arbitrary losses and are left out.
    grid = [(float(row["name"].split()[1]), row["loss"], row["loss_interval"] or 0) for row in read("rates")["tasks"]["reviews"] if row["loss"] < 1.2]
    figure, axis = plt.subplots(figsize=(6, 3))
    rates, losses, intervals = zip(*grid)
    axis.errorbar(rates, losses, yerr=intervals, marker="o", capsize=2, label="the rate as given")
    axis.set_xscale("log")
    chosen = [(row["learning_rate"], row["loss"]) for row in read("rate")["rows"] if "loss" in row]
    axis.semilogx(*zip(*chosen), "r*", markersize=10, label="found by trials")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("held-out loss")
    axis.legend()
    save(figure, "rate")


def main():
    tasks("depth", "equal seconds")
    rate()


if __name__ == "__main__":
    main()
