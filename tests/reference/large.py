"""Parity at a real size: a random LED-base, too large to commit, so made when it is needed.

    python large.py make DIR [--init-std 0.02]                  about 1 GB and some minutes
    epitome score  --model DIR/model --input DIR/score.jsonl --output DIR/scored.jsonl
    python large.py compare DIR score DIR/scored.jsonl
    epitome decode --model DIR/model --input DIR/generate.jsonl --output DIR/decoded.jsonl --num-beams 4
        --min-new-tokens 64 --max-new-tokens 64 --no-repeat-ngram-size 3
    python large.py compare DIR generate DIR/decoded.jsonl

`make` writes the model (random weights, seed 0), score.jsonl (a document of 5,000 tokens with three global positions and 64
target tokens), generate.jsonl (two documents of 1,024 tokens and one of 16,384) and expected.json. With the usual standard
deviation of 0.02 attention is close to uniform; 0.05 makes it sharp, which is harder to agree on. `compare` prints the largest
difference and fails when a log-probability or score is off by more than 1e-3 or a token differs.
"""

import argparse
import json
import os
import pathlib
import sys

import torch
from transformers import LEDConfig

import reference_model
import watched_generation

TOLERANCE = 1e-3
CONFIG = {
    "vocab_size": 50265, "max_encoder_position_embeddings": 16384, "max_decoder_position_embeddings": 1024,
    "attention_window": 1024, "d_model": 768, "encoder_layers": 6, "decoder_layers": 6,
    "encoder_attention_heads": 12, "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072,
    "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
}
OPTIONS = {"num_beams": 4, "min_new_tokens": 64, "max_new_tokens": 64, "no_repeat_ngram_size": 3}


def ids(count, step):
    """`<s>`, tokens from a fixed sequence, `</s>`."""
    tokens = [5 + (index * step + 13) % 50000 for index in range(count)]
    tokens[0], tokens[-1] = 0, 2
    return tokens


def write_records(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return records


def make(directory, init_std):
    directory.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    model = watched_generation.WatchedLed(LEDConfig(**CONFIG, init_std=init_std)).eval()
    model.save_pretrained(directory / "model")
    config = model.config.to_dict()
    scored = write_records(directory / "score.jsonl", [
        {"id": "long", "input_ids": ids(5000, 7919), "global_positions": [0, 1234, 4999], "labels": ids(64, 3571)}
    ])
    generated = write_records(directory / "generate.jsonl", [
        {"id": f"{count} tokens, step {step}", "input_ids": ids(count, step), "global_positions": [0]}
        for count, step in ((1024, 7919), (1024, 104729), (16384, 7919))
    ])
    with torch.no_grad():
        logits, _ = reference_model.run_alone(model, config, scored)
    labels = torch.tensor(scored[0]["labels"])
    log_probs = logits[0].log_softmax(-1).gather(1, labels[:, None])[:, 0]
    hypotheses = []
    for record in generated:
        model.close = False
        inputs = reference_model.encoder_inputs(config, [record])
        hypotheses += watched_generation.generate(model, inputs, OPTIONS, use_cache=True)[0]
        print(f"{record['id']}: {'has' if model.close else 'no'} decisions closer than {watched_generation.CLOSE}")
    expected = {"made_with": reference_model.made_with(), "log_probs": log_probs.tolist(), "hypotheses": hypotheses}
    (directory / "expected.json").write_text(json.dumps(expected) + "\n")


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def finish(what, difference):
    print(f"{what}: largest difference {difference:.1e}")
    if not difference <= TOLERANCE:
        sys.exit(f"more than {TOLERANCE}")


def compare_score(expected, records):
    ours, theirs = records[0]["logprobs"], expected["log_probs"]
    if len(ours) != len(theirs):
        sys.exit(f"{len(ours)} log-probabilities, expected {len(theirs)}")
    finish(f"{len(ours)} log-probabilities", max(abs(one - other) for one, other in zip(ours, theirs)))


def compare_generate(expected, records):
    if len(records) != len(expected["hypotheses"]):
        sys.exit(f"{len(records)} records, expected {len(expected['hypotheses'])}")
    for record, (tokens, _) in zip(records, expected["hypotheses"]):
        if record["tokens"] != tokens:
            sys.exit(f"{record['id']}: tokens differ\n{record['tokens']}\n{tokens}")
    pairs = zip(records, expected["hypotheses"])
    finish("tokens are equal; scores", max(abs(record["score"] - score) for record, (_, score) in pairs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["make", "compare"])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("what", choices=["score", "generate"], nargs="?")
    parser.add_argument("output", type=pathlib.Path, nargs="?", help="what epitome wrote")
    parser.add_argument("--init-std", type=float, default=0.02, help="standard deviation of the random weights")
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.directory, arguments.init_std)
    elif not arguments.output:
        parser.error("compare needs score or generate, and the file that epitome wrote")
    else:
        reference = json.loads((arguments.directory / "expected.json").read_text())
        compare = compare_score if arguments.what == "score" else compare_generate
        compare(reference, read(arguments.output))
