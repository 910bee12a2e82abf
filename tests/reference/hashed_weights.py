"""Weights that are a hash of the tensor's name and the element's index, so that no fixture has to store them.

README.md gives the formula in words; any language can compute the same float32 values.
"""

import numpy

MASK = (1 << 64) - 1
GAMMA = numpy.uint64(0x9E3779B97F4A7C15)
SHARED = "led.shared.weight"
TIED = ("led.encoder.embed_tokens.weight", "led.decoder.embed_tokens.weight", "lm_head.weight")


def fnv1a(text):
    """64-bit FNV-1a of the UTF-8 bytes."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def finalize(z):
    """The output function of SplitMix64, on an array of uint64."""
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return z ^ (z >> numpy.uint64(31))


def uniform(name, seed, count):
    """`count` multiples of 2^-23 in [-1, 1), as float64."""
    with numpy.errstate(over="ignore"):
        key = finalize(numpy.array([fnv1a(name) ^ seed], dtype=numpy.uint64))
        index = numpy.arange(1, count + 1, dtype=numpy.uint64)
        bits = finalize(key + index * GAMMA) >> numpy.uint64(40)
    return (bits.astype(numpy.float64) - 8388608.0) / 8388608.0


def is_norm(name):
    return name.rsplit(".", 1)[0].endswith(("layer_norm", "layernorm_embedding"))


def range_of(name, weights):
    """Centre and half-width of the values of tensor `name`."""
    if is_norm(name):
        return (1.0 if name.endswith(".weight") else 0.0), weights["norm"]
    if name.endswith("bias"):
        return 0.0, weights["bias"]
    if name == SHARED or name.endswith("embed_positions.weight"):
        return 0.0, weights["embedding"]
    return 0.0, weights["matrix"]


def tensor(name, shape, weights, eos_token_id=None):
    """The float32 array of tensor `name`, a key of LEDForConditionalGeneration's state dict."""
    name = SHARED if name in TIED else name
    centre, width = range_of(name, weights)
    count = int(numpy.prod(shape))
    values = (centre + width * uniform(name, weights["seed"], count)).astype(numpy.float32).reshape(shape)
    if name == "final_logits_bias" and "eos_bias" in weights:
        values[0, eos_token_id] = weights["eos_bias"]
    return values
