"""Random small configurations and documents."""

import math

# Pairs such as 6 and 4, or 10, 12 and 16, do not divide each other.
WINDOWS = [2, 4, 6, 8, 10, 12, 16, 20, 24, 30, 32, 40, 48, 64]
LONGEST_CHUNK = 480


def draw_window(rng, layers):
    """One window as an int, or one per layer."""
    if rng.random() < 0.35:
        return rng.choice(WINDOWS)
    while True:
        window = [rng.choice(WINDOWS) for _ in range(layers)]
        if math.lcm(*window) <= LONGEST_CHUNK:
            return window


def heads_of(rng, d_model):
    return rng.choice([heads for heads in (1, 2, 3, 4) if d_model % heads == 0])


def draw_config(rng, d_models=(8, 12, 16, 24, 32), layers=(1, 2, 3), vocab=(40, 120)):
    d_model = rng.choice(d_models)
    encoder_layers = rng.choice(layers)
    return {
        "model_type": "led",
        "architectures": ["LEDForConditionalGeneration"],
        "is_encoder_decoder": True,
        "vocab_size": rng.randint(*vocab),
        "max_encoder_position_embeddings": 256,
        "max_decoder_position_embeddings": 64,
        "d_model": d_model,
        "encoder_layers": encoder_layers,
        "decoder_layers": rng.choice(layers),
        "encoder_attention_heads": heads_of(rng, d_model),
        "decoder_attention_heads": heads_of(rng, d_model),
        "encoder_ffn_dim": rng.choice([8, 16, 24, 40, 64]),
        "decoder_ffn_dim": rng.choice([8, 16, 24, 40, 64]),
        "attention_window": draw_window(rng, encoder_layers),
        "activation_function": "gelu",
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "decoder_start_token_id": 2,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }


def draw_weights(rng, d_model):
    """Ranges wide enough for attention and predictions far from uniform."""
    return {
        "seed": rng.getrandbits(53),
        "matrix": round(rng.uniform(1.5, 3.5) / math.sqrt(d_model), 4),
        "embedding": round(rng.uniform(1.5, 4.0) / math.sqrt(d_model), 4),
        "bias": round(rng.uniform(0.05, 0.5), 4),
        "norm": round(rng.uniform(0.05, 0.5), 4),
    }


def draw_length(rng, window, limit):
    """Below, at, just above, and several times the window."""
    length = rng.choice([
        rng.randint(2, max(2, window)),
        window,
        window + 1,
        rng.choice([2, 3]) * window,
        rng.randint(window + 1, 4 * window + 3),
        rng.randint(window + 1, 4 * window + 3),
    ])
    return min(max(length, 2), limit)


def draw_global_positions(rng, length):
    """Mostly position 0 and perhaps more; sometimes not 0; sometimes none."""
    kind = rng.random()
    if kind < 0.12:
        return []
    more = rng.sample(range(length), min(length, rng.choice([0, 0, 1, 2, 3, 6])))
    return sorted(set(more if kind < 0.2 else [0, *more]))


def draw_document(rng, config, length, targets):
    """A tokenized record: `<s> ... </s>`, and labels that begin with `<s>`."""
    vocab = config["vocab_size"]
    tokens = [rng.randrange(3, vocab) for _ in range(length)]
    tokens[0], tokens[-1] = config["bos_token_id"], config["eos_token_id"]
    labels = [rng.randrange(3, vocab) for _ in range(targets)]
    labels[0] = config["bos_token_id"]
    if targets > 1:
        labels[-1] = config["eos_token_id"]
    return {"input_ids": tokens, "global_positions": draw_global_positions(rng, length), "labels": labels}
