#!/usr/bin/env python3
"""Checks JSON that a model writes: the objective of examples/records.toml.

    examples/records.py               checks texts for onebyte: JSON lines in, JSON lines out
    examples/records.py --prepare     writes the sentences into .cache/records/

A sentence tells a person's name, age and city, and the model has to write them as a JSON object. The score is the part of the three facts that is
right, or 0 if the text is no JSON object or says anything else. What is wrong does not say how to get it right, so the score has no gradient.
"""

import argparse
import json
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / ".cache/records"
COUNTS = {"train": 400, "validation": 200, "test": 400}
# The template: the prompt ends with the beginning of the object, so the model only has to go on.
PROMPT = "{sentence}\nAs JSON: {beginning}"
BEGINNING = '{"name":'
SENTENCES = (
    "{name} is {age} years old and lives in {city}.", "{name} lives in {city} and is {age} years old.", "In {city} lives {name}, aged {age}.",
    "At the age of {age}, {name} moved to {city}.")
NAMES = (
    "Anna Peter Maria John Sofia David Laura James Emma Lucas Julia Paul Clara Simon Alice Oscar Helen Victor Nora Martin Eva Robert Lisa Thomas "
    "Sarah Daniel Irene Felix Rosa Henry Ida Max Olga Leo Vera Hugo Greta Carl Marta Ivan Diana Frank Paula Karl Ellen Mark Susan Adam").split()
CITIES = (
    "Paris London Rome Berlin Oslo Madrid Vienna Prague Lisbon Dublin Athens Warsaw Moscow Tokyo Delhi Cairo Boston Chicago Denver Seattle Toronto "
    "Sydney Naples Milan Geneva Zurich Munich Hamburg Lyon Venice Kyoto Lima Havana Austin Dallas Miami").split()
# Public text for the basis: other facts, other keys.
PUBLIC = {
    "{title} is a book by {author} of {year}.": ("title", "author", "year"),
    "The {river} is {length} kilometres long and flows through {country}.": ("river", "length", "country"),
    "{team} from {town} won {games} games.": ("team", "town", "games"),
    "{dish} costs {price} at {restaurant}.": ("dish", "price", "restaurant"),
}
WORDS = {
    "title": "Emma Walden Ulysses Candide Middlemarch Persuasion Kim Lolita", "author": "Hardy Eliot Conrad Wells Stein Woolf Dumas Verne",
    "river": "Danube Rhine Volga Elbe Seine Tagus Loire Oder", "country": "Austria Russia France Spain Poland Serbia Hungary Portugal",
    "team": "Lions Eagles Hawks Bears Tigers Wolves Sharks Rockets", "town": "Leeds Bristol Turin Ghent Basel Porto Aarhus Tampere",
    "dish": "Soup Pasta Curry Salad Pizza Risotto Ramen Stew", "restaurant": "Adler Bellevue Corner Garden Harbour Mirabelle Oasis Station",
}
PUBLIC_COUNT = 160


def part_right(request):
    try:
        found = json.loads(BEGINNING + request["text"])
    except (ValueError, RecursionError):
        return 0.0
    facts = {key: request[key] for key in ("name", "age", "city")}
    if not isinstance(found, dict) or found.keys() - facts.keys():
        return 0.0
    return sum(found.get(key) == fact for key, fact in facts.items()) / len(facts)


def score():
    for line in sys.stdin:
        request = json.loads(line)
        # onebyte waits for the answer, so it must not stay in a buffer.
        print(json.dumps({"id": request["id"], "score": part_right(request)}), flush=True)


def prepare():
    """Each name and each city is in one file only."""
    generator = random.Random(0)
    RECORDS.mkdir(parents=True, exist_ok=True)
    for number, (name, count) in enumerate(COUNTS.items()):
        rows = set()
        while len(rows) < count:
            rows.add((generator.choice(NAMES[number::3]), generator.randrange(18, 90), generator.choice(CITIES[number::3])))
        lines = []
        for person, age, city in sorted(rows):
            facts = {"name": person, "age": age, "city": city}
            lines.append(json.dumps({"sentence": generator.choice(SENTENCES).format(**facts)} | facts) + "\n")
        generator.shuffle(lines)
        (RECORDS / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"records: {(RECORDS / name).relative_to(ROOT)}.jsonl: {count} sentences", file=sys.stderr)
    lines = []
    for number in range(PUBLIC_COUNT):
        sentence, keys = list(PUBLIC.items())[number % len(PUBLIC)]
        facts = {key: generator.choice(WORDS[key].split()) if key in WORDS else generator.randrange(2, 2000) for key in keys}
        lines.append(json.dumps({"text": PROMPT.format(sentence=sentence.format(**facts), beginning=json.dumps(facts))}) + "\n")
    (RECORDS / "public.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"records: {RECORDS.relative_to(ROOT)}/public.jsonl: {PUBLIC_COUNT} texts for the basis", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true")
    prepare() if parser.parse_args().prepare else score()


if __name__ == "__main__":
    main()
