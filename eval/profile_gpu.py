"""Sums up where the GPU time of a run went, from Nsight Compute's list of kernels.

    ncu --csv --clock-control none --metrics gpu__time_duration.sum \\
        epitome bench encode --model DIR --device cuda --precision bf16 | python3 eval/profile_gpu.py

With `--graph-profiling node` it sees the kernels of a decoding step, too, which are a graph. What casts and copies weights at the start
is in the list.

Kernels are timed one by one, with cold caches: shares are of their sum, not of the run, which waits between them.
"""

import collections
import csv
import sys

# The first kind of which a part occurs in a kernel's name counts; ours have the names of crates/kernels/cuda/.
KINDS = {
    "matrix products": ["gemm", "cutlass", "nvjet", "xmma", "splitK", "cublas"],
    "attention": ["attention", "delta", "reduce_global", "merge(", "add(const int"],
    "global rows": ["softmax", "fold<", "project<", "add_gradient<", "split<", "join<", "change_rows"],
    "layers of few rows": ["product<", "head<"],
    "layer norm": ["layer_norm", "add_chunks"],
    "GELU": ["gelu"],
    "cross-entropy": ["cross_entropy"],
    "AdamW, norm and copies": ["adamw", "squares", "round_all"],
    "embedding": ["embed", "accumulate"],
    "column sums": ["sum_chunk"],
    "best tokens": ["find_in_parts", "merge_parts"],
    "dropout and updates": ["drop<", "add<"],
}


def main() -> None:
    nanoseconds, counts = collections.Counter(), collections.Counter()
    lines = (line for line in sys.stdin if line.startswith('"'))
    for row in csv.DictReader(lines):
        if row.get("Metric Name") != "gpu__time_duration.sum":
            continue
        scale = {"ns": 1, "nsecond": 1, "us": 1e3, "usecond": 1e3, "ms": 1e6, "msecond": 1e6}[row["Metric Unit"]]
        name = kind(row["Kernel Name"])
        nanoseconds[name] += float(row["Metric Value"].replace(",", "")) * scale
        counts[name] += 1
    total = nanoseconds.total()
    for name, time in nanoseconds.most_common():
        print(f"{name}: {100 * time / total:.1f} %, {time / 1e6:.3f} ms in {counts[name]} launches")


def kind(kernel: str) -> str:
    named = (name for name, parts in KINDS.items() if any(part in kernel for part in parts))
    # What candle's kernels do, or copies.
    return next(named, "everything else: " + kernel.split("(")[0].split("<")[0].split("::")[-1])


main()
