"""Does a model directory load in `transformers`, and does it give the same logits there?

    python check_saved.py MODEL_DIR [EXPECTED.safetensors] [--tolerance 1e-4]

Loads MODEL_DIR with `LEDForConditionalGeneration.from_pretrained` and fails if a tensor is missing, unexpected or of another
shape. A tokenizer in the directory is loaded with `AutoTokenizer` and must
bring text back unchanged. EXPECTED holds what another program computed from that directory for one document:

    input_ids [N], decoder_input_ids [T]    integers of any type
    global_positions [G]                    optional; [0] when it is missing
    logits [T, V]                           before the softmax, final_logits_bias added
"""

import argparse
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LEDForConditionalGeneration

import reference_model

TEXT = "Long documents, in 2020: naïve “quotes”, tabs\tand\nnew lines — 10 % of it."
TOKENIZER_FILES = ["tokenizer.json", "vocab.json"]


def load(directory):
    model, info = LEDForConditionalGeneration.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    problems = {kind: found for kind, found in info.items() if found}
    if problems:
        sys.exit(f"{directory}: {problems}")
    return model.eval()


def check_tokenizer(directory, vocab_size):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = tokenizer(TEXT)["input_ids"]
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if text != TEXT:
        sys.exit(f"{directory}: the tokenizer turns {TEXT!r} into {text!r}")
    if max(ids) >= vocab_size:
        sys.exit(f"{directory}: token {max(ids)} is outside the vocabulary of {vocab_size}")
    print(f"{type(tokenizer).__name__}: {len(tokenizer)} tokens, the test text in {len(ids)}")


def check_logits(model, expected, tolerance):
    config = model.config.to_dict()
    document = {"input_ids": expected["input_ids"].tolist(), "global_positions": [0]}
    if "global_positions" in expected:
        document["global_positions"] = expected["global_positions"].tolist()
    inputs = reference_model.encoder_inputs(config, [document])
    with torch.no_grad():
        logits = model(**inputs, decoder_input_ids=expected["decoder_input_ids"].long()[None], use_cache=False).logits[0]
    difference = (logits - expected["logits"]).abs().max().item()
    print(f"logits: largest difference {difference:.1e} over {logits.shape[0]} positions and {logits.shape[1]} tokens")
    if not difference <= tolerance:
        sys.exit(f"more than {tolerance}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("expected", type=pathlib.Path, nargs="?")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    loaded = load(arguments.model)
    print(f"{sum(value.numel() for value in loaded.parameters())} parameters, none missing, none unexpected")
    if any((arguments.model / name).exists() for name in TOKENIZER_FILES):
        check_tokenizer(arguments.model, loaded.config.vocab_size)
    if arguments.expected:
        check_logits(loaded, load_file(arguments.expected), arguments.tolerance)
