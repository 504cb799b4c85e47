#!/usr/bin/env python3
"""Makes example-order.json: orders of examples as docs/reference/arithmetic.md describes them, written from that page alone.

    Tests/LanguageModelTests/Fixtures/make_order.py > Tests/LanguageModelTests/Fixtures/example-order.json
"""
import json

MASK = (1 << 64) - 1


def split_mix(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        yield z ^ z >> 31


def below(count, numbers):
    product = next(numbers) * count
    while product & MASK < (1 << 64) % count:
        product = next(numbers) * count
    return product >> 64


def order(examples, seed, machine, epoch):
    machine = 0 if epoch == 0 else machine
    numbers = split_mix(((seed + machine * 0x9E3779B97F4A7C15) & MASK) ^ epoch << 32)
    row = list(range(examples))
    for place in range(examples - 1):
        other = place + below(examples - place, numbers)
        row[place], row[other] = row[other], row[place]
    return row


def examples_of(sample, examples, batch, shared, seed, machine):
    places = [sample // shared * batch + i for i in range(batch)]
    return [order(examples, seed, machine, place // examples)[place % examples] for place in places]


if __name__ == "__main__":
    cases = []
    for number, (examples, batch, shared, seed, machine) in enumerate(
        [(1, 1, 1, 0, 1), (2, 1, 1, 0, 3), (7, 2, 3, 5, 4), (100, 16, 1, 0, 2), (33, 5, 16, 0xFFFFFFFFFFFFFFFF, 4000000000), (1000, 7, 2, 99, 1)]
    ):
        samples = [0, 1, 2, 3, 17, 64, 500, 4000 + number]
        cases.append({"examples": examples, "batch": batch, "shared": shared, "seed": seed, "machine": machine, "samples": [
            {"sample": s, "reads": examples_of(s, examples, batch, shared, seed, machine)} for s in samples]})
    print(json.dumps(cases))
