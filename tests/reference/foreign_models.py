"""Model directories of BART and of allenai's own Longformer encoder-decoder, for conversion to LED."""

import json

import torch
from transformers import BartConfig, BartForConditionalGeneration, LEDConfig, LEDForConditionalGeneration

import hashed_weights
import reference_model

POSITION_OFFSET = 2
BART_POSITIONS = 32
TOLERANCE = 1e-5
# Old BART fields that allenai's code wrote with transformers 3, and its own.
ALLENAI_FIELDS = {
    "architectures": ["LongformerEncoderDecoderForConditionalGeneration"],
    "model_type": "bart",
    "is_encoder_decoder": True,
    "add_bias_logits": False,
    "add_final_layer_norm": False,
    "attention_dilation": [1, 1],
    "attention_mode": "sliding_chunks",
    "attention_probs_dropout_prob": 0.0,
    "autoregressive": False,
    "classif_dropout": 0.0,
    "decoder_layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "extra_pos_embeddings": POSITION_OFFSET,
    "gradient_checkpointing": False,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
    "normalize_before": False,
    "normalize_embedding": True,
    "num_hidden_layers": 2,
    "scale_embedding": False,
    "static_position_embeddings": False,
}


def under_model(name):
    return name.replace("led.", "model.", 1) if name.startswith("led.") else name


def save_allenai(output, led_config, weights):
    """The LED model under allenai's names: `model.` for `led.`, two leading position rows, one-sided windows, no head."""
    state = {}
    for name, value in reference_model.build(led_config, weights).state_dict().items():
        if name.endswith("embed_positions.weight"):
            value = torch.cat([torch.full((POSITION_OFFSET, value.shape[1]), 9.0), value])
        if name != "lm_head.weight":
            state[under_model(name)] = value
    config = {key: value for key, value in led_config.items() if key != "decoder_start_token_id"} | ALLENAI_FIELDS
    config["attention_window"] = [window // 2 for window in led_config["attention_window"]]
    directory = output / "allenai"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    torch.save(state, directory / "pytorch_model.bin")


def save_bart(output, sizes, weights):
    """A BART model whose weights are hashes of BART's names."""
    config = BartConfig(**sizes, max_position_embeddings=BART_POSITIONS, attn_implementation="eager")
    model = BartForConditionalGeneration(config).eval()
    state = {}
    for name, value in model.state_dict().items():
        is_tied = name.endswith("embed_tokens.weight") or name == "lm_head.weight"
        source = "model.shared.weight" if is_tied else name
        state[name] = torch.from_numpy(hashed_weights.tensor(source, list(value.shape), weights))
    model.load_state_dict(state)
    model.save_pretrained(output / "bart")
    return model


def name_in_bart(name):
    """BART's name for LED's parameter; local and global projections have the same."""
    for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        for suffix in ("_global.", "."):
            name = name.replace(f"longformer_self_attn.{ours}{suffix}", f"{theirs}.")
    return under_model(name).replace("self_attn.output.", "self_attn.out_proj.")


def led_from_bart(bart, led_config):
    """LED with BART's weights: positions without the two leading rows and tiled, `*_global` as copies."""
    window = 2 * BART_POSITIONS
    config = led_config | {"attention_window": window, "max_encoder_position_embeddings": window}
    config["max_decoder_position_embeddings"] = BART_POSITIONS
    model = LEDForConditionalGeneration(LEDConfig.from_dict(dict(config))).eval()
    source, state = bart.state_dict(), {}
    for name, value in model.state_dict().items():
        found = source[name_in_bart(name)]
        if name.endswith("embed_positions.weight"):
            found = found[POSITION_OFFSET:].repeat(2, 1)[: len(value)]
        state[name] = found
    model.load_state_dict(state, strict=True)
    return config, model


def expected_bart(bart, led_config, documents):
    """BART's own logits, which LED must give after conversion where its window spans the document, whatever is global."""
    logits = []
    for document in documents:
        decoder_input_ids = torch.tensor([[led_config["decoder_start_token_id"], *document["labels"][:-1]]])
        output = bart(input_ids=torch.tensor([document["input_ids"]]), decoder_input_ids=decoder_input_ids)
        logits.append(output.logits[0])
    config, led = led_from_bart(bart, led_config)
    converted, _ = reference_model.run_alone(led, config, documents)
    difference = max((one - other).abs().max().item() for one, other in zip(logits, converted))
    assert difference < TOLERANCE, difference
    return logits
