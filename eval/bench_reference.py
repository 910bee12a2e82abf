#!/usr/bin/env python3
"""Times `transformers`' LED on a GPU, for comparison with `epitome bench`: the same token ids, one JSON line each.

    pip install torch transformers safetensors
    python3 eval/bench_reference.py make --model DIR --size base            # random weights of a real size
    python3 eval/bench_reference.py encode --model DIR --batch-size 8
    python3 eval/bench_reference.py generate --model DIR --beams 4 --new-tokens 256
    python3 eval/bench_reference.py train --model DIR --target-tokens 512   # under autocast, with recomputation
    python3 eval/bench_reference.py peaks                                   # matrix products and copies of this GPU

Documents of a batch are alike. The best of --repeat counts. --compile compiles encoder and decoder.
"""

import argparse
import json
import time

import torch

LAYERS = {"base": (6, 768, 12), "large": (12, 1024, 16)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(WORK))
    parser.add_argument("--model")
    parser.add_argument("--size", default="base", choices=LAYERS)
    for name, default in [("tokens", 16384), ("batch-size", 1), ("target-tokens", 512), ("beams", 4), ("new-tokens", 256)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    WORK[options.what](options)


def make(options: argparse.Namespace) -> None:
    from transformers import LEDConfig, LEDForConditionalGeneration

    layers, width, heads = LAYERS[options.size]
    torch.manual_seed(0)
    config = LEDConfig(
        vocab_size=50265, d_model=width, max_encoder_position_embeddings=16384, max_decoder_position_embeddings=1024,
        attention_window=1024, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0,
    )
    LEDForConditionalGeneration(config).save_pretrained(options.model)


def token_ids(count: int, rows: int) -> torch.Tensor:
    """Those of `epitome bench`."""
    row = [0] + [5 + (i * 7919 + 13) % 50000 for i in range(1, count - 1)] + [2]
    return torch.tensor([row] * rows, device="cuda")


def load(options: argparse.Namespace, dtype: torch.dtype):
    from transformers import LEDForConditionalGeneration

    model = LEDForConditionalGeneration.from_pretrained(options.model).to("cuda", dtype)
    if options.compile:
        model.led.encoder = torch.compile(model.led.encoder, dynamic=False)
        model.led.decoder = torch.compile(model.led.decoder, dynamic=True)
    ids = token_ids(options.tokens, options.batch_size)
    mask = torch.zeros_like(ids)
    mask[:, 0] = 1
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "global_attention_mask": mask}


def report(options: argparse.Namespace, run, tokens: int) -> None:
    seconds = []
    for _ in range(options.repeat):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    best = min(seconds)
    print(json.dumps({
        "what": options.what, "tokens": options.tokens, "batch_size": options.batch_size, "compiled": options.compile,
        "seconds": round(best, 4), "tokens_per_second": round(tokens * options.batch_size / best, 1),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }))


def encode(options: argparse.Namespace) -> None:
    model, inputs = load(options, torch.bfloat16)
    with torch.no_grad():
        report(options, lambda: model.eval().led.encoder(**inputs), options.tokens)


def generate(options: argparse.Namespace) -> None:
    model, inputs = load(options, torch.bfloat16)
    length = {"max_new_tokens": options.new_tokens, "min_new_tokens": options.new_tokens}
    with torch.no_grad():
        run = lambda: model.eval().generate(**inputs, num_beams=options.beams, do_sample=False, **length)
        report(options, run, options.new_tokens)


def train(options: argparse.Namespace) -> None:
    model, inputs = load(options, torch.float32)
    model.train().gradient_checkpointing_enable()
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    labels = token_ids(options.target_tokens, options.batch_size)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()

    report(options, step, options.tokens)


def peaks(options: argparse.Namespace) -> None:
    """TFLOP/s of a large product in bf16 and GB/s of a copy, on random numbers."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(1 << 30, device="cuda")
    target = torch.empty_like(source)
    print(json.dumps({
        "device": torch.cuda.get_device_name(),
        "tflops": round(2 * 8192**3 / median(lambda: a @ b) / 1e12, 1),
        "gigabytes_per_second": round(2 * source.nbytes / median(lambda: target.copy_(source)) / 1e9, 1),
    }))


def median(run) -> float:
    """Seconds of a call, of eleven after three."""
    seconds = []
    for n in range(14):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        run()
        events[1].record()
        torch.cuda.synchronize()
        seconds += [events[0].elapsed_time(events[1]) / 1000] * (n >= 3)
    return sorted(seconds)[len(seconds) // 2]


WORK = {"make": make, "encode": encode, "generate": generate, "train": train, "peaks": peaks}

if __name__ == "__main__":
    main()
