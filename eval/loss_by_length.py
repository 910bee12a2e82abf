"""Compares the losses of models that read different lengths of the same documents.

    python3 eval/loss_by_length.py NAME=FILE NAME=FILE ...

Each FILE is the output of `epitome score`. Prints for each the loss in nats a token over all records, with a 95 % bootstrap
interval over records, and its difference from the last one, with the interval of the same resamples.
"""

import json
import random
import sys

RESAMPLES = 1000


def main() -> None:
    named = [argument.split("=", 1) for argument in sys.argv[1:]]
    scores = {name: read(path) for name, path in named}
    ids = list(scores[named[-1][0]])
    for name, found in scores.items():
        if list(found) != ids:
            sys.exit(f"{name} has other records than {named[-1][0]}")
    generator = random.Random(0)
    draws = [[generator.choice(ids) for _ in ids] for _ in range(RESAMPLES)]
    last = scores[named[-1][0]]
    for name, found in scores.items():
        means = sorted(loss(found, draw) for draw in draws)
        differences = sorted(loss(found, draw) - loss(last, draw) for draw in draws)
        print(
            f"{name}: {loss(found, ids):.3f} ({interval(means)}), "
            f"minus {named[-1][0]}: {loss(found, ids) - loss(last, ids):+.3f} ({interval(differences)})"
        )


def read(path: str) -> dict[str, tuple[float, int]]:
    with open(path, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return {record["id"]: (record["nll"], record["tokens"]) for record in records}


def loss(found: dict[str, tuple[float, int]], ids: list[str]) -> float:
    return sum(found[id][0] for id in ids) / sum(found[id][1] for id in ids)


def interval(values: list[float]) -> str:
    return f"{values[int(0.025 * len(values))]:.3f} to {values[int(0.975 * len(values)) - 1]:.3f}"


main()
