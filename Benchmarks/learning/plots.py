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


# What scripts/demo-seeds prints (tables of docs/research/learning.md): bytes, and the accuracy of each seed or their mean.
DEMO_SEEDS = [(1024, [0.8495, 0.85, 0.849]), (4096, [0.864, 0.864, 0.8665]), (16384, [0.8695, 0.8705, 0.8705])]
LAST_LAYER_SEEDS = [(72000, [0.848])]


def sent():
    """Bytes against accuracy on the demo's reviews: the mean of the seeds, and a line from the lowest to the highest."""
    figure, axis = plt.subplots(figsize=(7.5, 4.2))

    def line(points, label, style):
        points = sorted(points)
        counts, each = [count for count, _ in points], [[100 * value for value in values] for _, values in points]
        means = [sum(values) / len(values) for values in each]
        errors = [[mean - min(values) for mean, values in zip(means, each)], [max(values) - mean for mean, values in zip(means, each)]]
        axis.errorbar(counts, means, yerr=errors, fmt=style, label=label, capsize=2, markersize=5)

    line(DEMO_SEEDS, "onebyte: an adapter, the demo's way", "o-")
    former = [(row["samples"], row["accuracy_each"]) for row in [
        *(row for row in read("objective")["rows"] if row["name"] == "the loss, rate 0.1"),
        *(row for row in read("examples")["rows"] if row["name"].startswith(("32", "16", "8 sentences, 51")))]]
    hour = [row for row in read("hour")["rows"] if row["name"] == "last layer"]
    line([*former, *LAST_LAYER_SEEDS, (hour[0]["samples"], [row["accuracy"] for row in hour])], "onebyte: the last layer, the former way", "s-")
    rows = read("simulate-rivals")["rows"]
    line([(row["bytes"][0], row["accuracy"]) for name, row in rows.items() if "as bytes" in name], "int8 gradients of the adapter's numbers", "^-")
    for rank, style in ((1, "v-"), (2, "<-")):
        found = [(row["bytes"], row["accuracy"]) for key, row in read("lora8")["rows"].items() if key.startswith(f"rank {rank},")]
        line(found, f"int8 LoRA before the head, rank {rank}", style)
    rivals = read("rivals-reviews")
    # These count both ways; here is what the machines send.
    for key, label, style in (("last-layer", "AdamW, last layer, floats", "P"), ("lora", "LoRA, rank 8, all layers, floats", "X"),
                              ("all-layers", "AdamW, all layers, floats", "D")):
        found = list(rivals[key].values())
        line([(min(row["bytes"] for row in found) / 2, [row["accuracy"] for row in found])], label, style)
    axis.axhline(100 * rivals["probe"]["0"]["accuracy"], color="#888888", linestyle="--", linewidth=1, label="linear probe, all data in one place")
    axis.set_xscale("log")
    axis.set_ylim(50, 92)
    axis.set_xlabel("bytes that three machines send in all")
    axis.set_ylabel("held-out accuracy, %")
    axis.legend(fontsize=7, loc="lower right")
    save(figure, "bytes")


def main():
    sent()
    tasks("depth", "equal seconds")
    rate()


if __name__ == "__main__":
    main()
