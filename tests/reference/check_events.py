"""Reads a run's event files with TensorBoard itself and compares them with its metrics.jsonl.

    python check_events.py RUN_DIR

Fails unless every number of metrics.jsonl, and no other, is a scalar of the same step and (in float32) value: what a resumed
run made again must be hidden. Written for tensorboard 2.21.0.
"""

import json
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def expected(lines):
    scalars = {}
    for line in map(json.loads, lines):
        for name, value in line.items():
            if name != "step":
                tag = f"validation/{name[11:]}" if name.startswith("validation_") else f"train/{name}"
                value = struct.unpack("f", struct.pack("f", value))[0]
                scalars.setdefault(tag, []).append((line["step"], value))
    return scalars


def main(run):
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    found = {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}
    wanted = expected((run / "metrics.jsonl").read_text().splitlines())
    assert found.keys() == wanted.keys(), (sorted(found), sorted(wanted))
    for tag, points in wanted.items():
        assert found[tag] == points, (tag, found[tag], points)
    files = len(list((run / "tensorboard").iterdir()))
    print(f"{files} event files, {len(found)} scalars, {sum(map(len, found.values()))} points: as in metrics.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
