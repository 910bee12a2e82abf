"""Sums up where the time of a run went, from stacks that Linux's perf recorded.

    perf record -F 97 --call-graph dwarf,8192 epitome bench train --model DIR --tokens 4096 --target-tokens 256 --repeat 2
    perf script --no-inline -F ip,sym | python3 eval/profile_cpu.py
"""

import collections
import sys

# The first kind of which a name occurs anywhere in a stack counts.
KINDS = {
    "matrix products": ["matmul", "panels"],
    "attention": ["cpu::attention", "cpu::product", "cpu::softmax", "global_attention"],
    "cross-entropy": ["cross_entropy"],
    "AdamW": ["adamw"],
    "GELU": ["gelu"],
    "layer norm": ["layer_norm"],
}


def main() -> None:
    counts = collections.Counter()
    stack = ""
    for line in sys.stdin:
        if line.strip():
            stack += line
        elif stack:
            counts[kind(stack)] += 1
            stack = ""
    for name, count in counts.most_common():
        print(f"{name}: {100 * count / counts.total():.1f} %")


def kind(stack: str) -> str:
    named = (name for name, parts in KINDS.items() if any(part in stack for part in parts))
    return next(named, "everything else")


main()
