"""The encoder's self-attention written out densely: the mathematics without chunks, in any floating type.

It stands in where the reference cannot go: its chunked code fails for a window of 2, and its float32 softmax hides what
float64 would give. Wherever both work, the scripts check that they agree.
"""

import contextlib

import torch
from transformers.models.led.modeling_led import LEDEncoderSelfAttention


def heads(attention, x):
    """[B, N, D] -> [B, H, N, D / H]"""
    return x.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)


def attend(attention, x, projections, allowed):
    """Softmax attention over the keys where `allowed` [B, N, N] is true; queries without any give zeros."""
    query, key, value = (heads(attention, projection(x)) for projection in projections)
    scores = query @ key.transpose(-1, -2) / attention.head_dim**0.5
    scores = scores.masked_fill(~allowed[:, None], float("-inf"))
    probabilities = torch.nan_to_num(scores.softmax(-1), nan=0.0)
    return (probabilities @ value).transpose(1, 2).flatten(-2)


def forward(self, hidden_states, is_index_masked=None, is_index_global_attn=None, is_global_attn=None, **_):
    places = torch.arange(hidden_states.shape[1])
    near = (places[:, None] - places[None, :]).abs() <= self.one_sided_attn_window_size
    real = ~is_index_masked
    local = real[:, :, None] & real[:, None, :] & (near | is_index_global_attn[:, None, :])
    output = attend(self, hidden_states, (self.query, self.key, self.value), local)
    if is_global_attn:
        projections = (self.query_global, self.key_global, self.value_global)
        everything = real[:, :, None] & real[:, None, :]
        globals_output = attend(self, hidden_states, projections, everything)
        output = torch.where(is_index_global_attn[:, :, None], globals_output, output)
    return (output,)


@contextlib.contextmanager
def installed(dtype=torch.float32):
    """While this lasts, every LED encoder computes its self-attention with `forward` above, and masks have `dtype`."""
    original = LEDEncoderSelfAttention.forward
    LEDEncoderSelfAttention.forward = forward
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        LEDEncoderSelfAttention.forward = original
        torch.set_default_dtype(torch.float32)
