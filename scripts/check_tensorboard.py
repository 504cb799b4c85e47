#!/usr/bin/env python3
"""Checks that TensorBoard's own reader finds in a run's event files what is in its CSV.

    onebyte report RUN --format tensorboard --output board
    onebyte report RUN --format csv --output curves.csv
    scripts/check_tensorboard.py board curves.csv

Compares each curve: its number of points, and each point's step, time and value. Event files hold values as Float32. Ends with status 1 if
anything differs. Needs tensorboard (PyPI).
"""

import csv
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {
    "training_loss": "training/loss", "learning_rate": "training/learning_rate", "mean_magnitude": "training/mean_magnitude",
    "evaluation_loss": "evaluation/loss", "evaluation_accuracy": "evaluation/accuracy", "validation_loss": "validation/loss",
    "validation_accuracy": "validation/accuracy",
}


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    board, table = sys.argv[1:]
    curves = {}
    for row in csv.DictReader(open(table, newline="", encoding="utf-8")):
        tag = TAGS.get(row["curve"], f"workers/{row['worker']} {row['machine'] or '-'} loss")
        curves.setdefault(tag, []).append((int(row["round"]), float(row["unix_seconds"]), as_float32(float(row["value"]))))
    # 0: keep all points. The reader samples long curves otherwise.
    reader = EventAccumulator(board, size_guidance={"scalars": 0}).Reload()
    tags = reader.Tags()["scalars"]
    if only := set(curves) ^ set(tags) - {"wire/bytes", "wire/samples"}:
        sys.exit(f"only one of the two has {', '.join(sorted(only))}")
    for tag, points in sorted(curves.items()):
        found = [(event.step, event.wall_time, event.value) for event in reader.Scalars(tag)]
        # The CSV's points are in the order of time, as the events are.
        if found != points:
            difference = next((pair for pair in zip(found, points) if pair[0] != pair[1]), (len(found), len(points)))
            sys.exit(f"{tag}: TensorBoard reads {difference[0]}, the CSV has {difference[1]}")
        print(f"{tag}: {len(points)} points are equal")


if __name__ == "__main__":
    main()
