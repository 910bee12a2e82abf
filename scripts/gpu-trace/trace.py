#!/usr/bin/env python3
"""What a run would ask of a GPU, without one: launches by kernel, copies, and the most memory.

    scripts/gpu-trace/trace.py [--gib 80] [--between KERNEL] [--list] -- target/release/epitome bench train ... --device cuda

The program, built with `--features cuda`, runs with a stand-in for CUDA's libraries (stand_in.cpp), for which a C++ compiler is
needed. Its results mean nothing, its times are those of the host alone, without those of the driver.

--gib       memory of the GPU
--between   sums up only what lies between the last two launches of a kernel whose name contains this: a step
--list      prints the calls in their order instead of sums
"""

import argparse
import collections
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# How functions of CUDA's libraries begin.
PREFIXES = ("cu", "__cuda")
LIBRARIES = ("libcuda.", "libcudart.", "libcublas.", "libcublasLt.", "libcurand.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", default="80")
    parser.add_argument("--between")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    program = shutil.which(options.command[0]) or sys.exit(f"{options.command[0]}: no such program")
    with tempfile.TemporaryDirectory() as folder:
        build(program, pathlib.Path(folder))
        status, calls = run(options.command, pathlib.Path(folder), options.gib)
    peak = max((int(details.split()[4]) for _, kind, details in calls if kind == "allocate"), default=0)
    part = between(calls, options.between) if options.between else calls
    if options.list:
        for _, kind, details in part:
            print(kind, details, sep="\t")
    else:
        sum_up(part)
    print(f"memory at most: {peak / 2**30:.2f} GiB")
    if status != 0:
        sys.exit(f"the program ended with {status}: these are the calls until then")


def build(program: str, folder: pathlib.Path) -> None:
    """The stand-in under the name of every CUDA library that the program needs, with a function for all that it calls."""
    stand_in = HERE / "stand_in.cpp"
    source = stand_in.read_text()
    undefined = subprocess.run(["nm", "-D", "--undefined-only", program], check=True, capture_output=True, text=True).stdout
    names = {line.split()[-1].split("@")[0] for line in undefined.splitlines()}
    missing = sorted(name for name in names if name.startswith(PREFIXES) and f" {name}(" not in source and f"*{name}(" not in source)
    rest = folder / "rest.cpp"
    rest.write_text("".join(f'extern "C" int {name}() {{ return 0; }}\n' for name in missing))
    library = folder / "stand_in.so"
    subprocess.run(["c++", "-std=c++17", "-O1", "-shared", "-fPIC", "-o", library, stand_in, rest], check=True)
    needed = subprocess.run(["readelf", "-d", program], check=True, capture_output=True, text=True).stdout
    for name in (line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line):
        if name.startswith(LIBRARIES):
            (folder / name).symlink_to(library)


def run(command: list[str], folder: pathlib.Path, gib: str) -> tuple[int, list[tuple[float, str, str]]]:
    """Exit status and calls."""
    trace = folder / "trace"
    libraries = f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
    environment = os.environ | {"LD_LIBRARY_PATH": libraries, "GPU_TRACE": str(trace), "GPU_TRACE_GIB": gib}
    ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    # The stand-in's functions have no versions.
    sys.stderr.writelines(line for line in ended.stderr.splitlines(True) if "no version information" not in line)
    calls = [line.split("\t", 2) for line in trace.read_text().splitlines()] if trace.exists() else []
    # A line may have been cut off.
    calls = [fields for fields in calls if len(fields) == 3]
    if not calls:
        sys.exit(f"{command[0]} never called CUDA")
    names = sorted({details.split("  ")[0] for _, kind, details in calls if kind in ("launch", "record")})
    plain = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True).stdout.split("\n")
    readable = {name: short(text) for name, text in zip(names, plain)}

    def call(seconds: str, kind: str, details: str) -> tuple[float, str, str]:
        if kind in ("launch", "record"):
            name, rest = details.split("  ", 1)
            details = f"{readable[name]}  {rest}"
        return float(seconds), kind, details

    return ended.returncode, [call(*fields) for fields in calls]


def short(kernel: str) -> str:
    return kernel.replace("(anonymous namespace)::", "").removeprefix("void ").split("(")[0]


def between(calls: list[tuple[float, str, str]], kernel: str) -> list[tuple[float, str, str]]:
    marks = [index for index, (_, kind, details) in enumerate(calls) if kind == "launch" and kernel in details]
    if len(marks) < 2:
        sys.exit(f"{len(marks)} launches of a kernel with {kernel} in its name, not two")
    return calls[marks[-2] + 1 : marks[-1] + 1]


def sum_up(calls: list[tuple[float, str, str]]) -> None:
    kinds = collections.Counter(kind for _, kind, _ in calls)
    kernels = collections.Counter(details.split("  ")[0] for _, kind, details in calls if kind == "launch")
    nodes = sum(int(details.split()[0]) for _, kind, details in calls if kind == "graph")
    for kernel, count in kernels.most_common():
        print(f"{count:7} {kernel}")
    print(f"{kinds['launch']} launches, {kinds['graph']} graphs of {nodes} nodes in all, {kinds['fill']} fills, "
          f"{kinds['copy']} copies, {kinds['to GPU']} to the GPU, {kinds['from GPU']} from it, {kinds['wait']} waits, "
          f"{kinds['allocate']} allocations; {calls[-1][0] - calls[0][0]:.4f} s")


main()
