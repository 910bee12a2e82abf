"""Makes the fixtures in ../fixtures from `transformers`; README.md describes them.

    python make_fixtures.py [forward] [gradients] [training] [optimization] [generate] [models]      (all of them when none is named)

Written for and run with Python 3.11, torch 2.15.0, transformers 4.57.6, numpy and safetensors.
"""

import argparse
import importlib
import pathlib

PARTS = ["forward", "gradients", "training", "optimization", "generate", "models"]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)}")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "fixtures")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts or PARTS:
        importlib.import_module(part).make(arguments.output)
