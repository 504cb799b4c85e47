#!/usr/bin/env python3
"""The study's further tasks as JSON lines, out of public files.

    Benchmarks/learning/tasks.py --data DIR             all of them (default of DIR: .cache/public-data)
    Benchmarks/learning/tasks.py --data DIR agnews rte  only these

DIR holds these files as their projects publish them:

    trec/TREC.train.all, TREC.test.all     github.com/harvardnlp/sent-conv-torch, data/
    cola/train.tsv, dev.tsv                GLUE's CoLA: source, label, mark, sentence (nyu-mll.github.io/CoLA)
    e2e/devset.csv, testset_w_refs.csv     github.com/tuetschek/e2e-dataset (CC BY-SA 4.0)
    agnews/test.csv                        AG's news corpus (Zhang et al., arXiv 1509.01626): class, title, description
    rte/train.tsv, val.tsv, dev.tsv        GLUE's RTE: index, sentence1, sentence2, label; train and val are GLUE's train

Writes .cache/study/NAME/{train,validation,test}.jsonl for the run files of Benchmarks/learning/tasks/. Which example is in which
split depends on nothing but its text.
"""

import argparse
import csv
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
OUTPUT = ROOT / ".cache/study"


def shuffled(rows):
    """Returns the rows in a shuffled order that depends only on the rows themselves."""
    return sorted(rows, key=lambda row: hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest())


def write(name, **splits):
    (OUTPUT / name).mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (OUTPUT / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{name}: " + ", ".join(f"{len(rows):,} {split}" for split, rows in splits.items()))


def trec(data):
    """TREC: what kind of thing a question asks for; six classes."""
    def read(file):
        for line in open(data / "trec" / file, encoding="latin-1"):
            label, text = line.strip().split(" ", 1)
            yield {"text": text, "label": label}
    known = shuffled(read("TREC.train.all"))
    write("trec", train=known[:1500], validation=known[1500:2000], test=list(read("TREC.test.all")) + known[2000:2500])


def cola(data):
    """CoLA: whether a sentence is good English."""
    def read(file):
        for line in open(data / "cola" / file):
            _, label, _, text = line.rstrip("\n").split("\t")
            yield {"text": text, "label": label}
    known = shuffled(read("train.tsv"))
    write("cola", train=known[:1500], validation=known[1500:2000], test=shuffled(read("dev.tsv"))[:1000])


def e2e(data):
    """E2E: a sentence about a restaurant from a list of facts. No list of facts is in two splits."""
    def read(file):
        seen = set()
        for row in csv.DictReader(open(data / "e2e" / file, newline="")):
            facts = row.get("mr") or row.get("MR")
            if facts not in seen:
                seen.add(facts)
                yield {"prompt": f"Data: {facts}\nText:", "completion": " " + (row.get("ref") or row.get("orig_ref"))}
    rows = shuffled([*read("devset.csv"), *read("testset_w_refs.csv")])
    write("e2e", train=rows[:800], validation=rows[800:900], test=rows[900:1100])


def agnews(data):
    """AG's news: four kinds of news."""
    with open(data / "agnews/test.csv", newline="") as file:
        known = shuffled({"text": f"{title}. {text}".replace("\\", " "), "label": label} for label, title, text in csv.reader(file))
    write("agnews", train=known[:600], validation=known[600:800], test=known[800:1800])


def rte(data):
    """RTE: whether one sentence follows from another."""
    def read(file):
        for row in csv.DictReader(open(data / "rte" / file, newline=""), ["index", "sentence1", "sentence2", "label"], delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["label"] == "label":  # the header, which val.tsv lacks
                continue
            yield {"premise": row["sentence1"], "hypothesis": row["sentence2"], "label": row["label"]}
    known = shuffled([*read("train.tsv"), *read("val.tsv")])
    write("rte", train=known[:2000], validation=known[2000:], test=list(read("dev.tsv")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / ".cache/public-data")
    tasks = {task.__name__: task for task in (trec, cola, e2e, agnews, rte)}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(tasks)}; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(tasks):
        parser.error(f"no task: {', '.join(sorted(unknown))}")
    try:
        for name in arguments.names or tasks:
            tasks[name](arguments.data)
    except FileNotFoundError as error:
        sys.exit(f"tasks.py: {error.filename} is not there; --help says where it is published")


if __name__ == "__main__":
    main()
