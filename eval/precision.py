#!/usr/bin/env python3
"""What a lower precision costs: differences of log-probabilities, token by token, between two outputs of `epitome score`.

    epitome score --model DIR --input RECORDS --output f32.jsonl
    epitome score --model DIR --input RECORDS --precision int8 --output int8.jsonl
    python3 eval/precision.py f32.jsonl int8.jsonl

Only the standard library is needed. Differences are second minus first, in nats.
"""
import json
import sys


def log_probabilities(path):
    with open(path, encoding="utf-8") as lines:
        return {record["id"]: record["logprobs"] for record in map(json.loads, lines)}


def quantile(ordered, share):
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main(first_path, second_path):
    first, second = log_probabilities(first_path), log_probabilities(second_path)
    if first.keys() != second.keys():
        sys.exit(f"{first_path} and {second_path} hold different records")
    differences = [b - a for name in first for a, b in zip(first[name], second[name], strict=True)]
    absolute = sorted(map(abs, differences))
    print(f"{len(first)} records, {len(absolute)} tokens")
    print(f"mean difference {sum(differences) / len(differences):+.5f}, mean absolute {sum(absolute) / len(absolute):.5f}")
    shares = (0.5, 0.9, 0.99, 0.999)
    print("absolute, quantiles: " + ", ".join(f"{100 * share:g} %: {quantile(absolute, share):.5f}" for share in shares)
          + f", largest: {absolute[-1]:.5f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
