"""models/: small model directories in every format that is read or converted, and logits.json, .safetensors beside them."""

import json
import random
import shutil

import torch
from safetensors.torch import save_file
from transformers import LEDForConditionalGeneration

import foreign_models
import hashed_weights
import random_cases
import reference_model

SIZES = {
    "vocab_size": 60,
    "d_model": 8,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "activation_function": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "init_std": 0.02,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
LED = SIZES | {
    "model_type": "led",
    "attention_window": [8, 4],
    "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 24,
}
WEIGHTS = {"seed": 5, "matrix": 0.8, "embedding": 0.9, "bias": 0.3, "norm": 0.2}


def draw_documents(rng, config, lengths):
    documents = [random_cases.draw_document(rng, config, length, rng.randint(3, 10)) for length in lengths]
    for count, document in enumerate(documents):
        document["global_positions"] = sorted(rng.sample(range(1, len(document["input_ids"])), count) + [0])
    return documents


def save_with_state(directory, config, state, name, save=save_file):
    """A directory with only `config.json` and one weight file."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save(state, str(directory / name))


def save_led(output):
    """The same model in each format; in half precision rounded, and in two without its bias on the logits."""
    model = reference_model.build(LED, WEIGHTS)
    config = json.loads(model.config.to_json_string())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    untied = {name: value for name, value in state.items() if name not in hashed_weights.TIED}
    model.save_pretrained(output / "led_safetensors")
    model.save_pretrained(output / "led_sharded", max_shard_size="8KB")
    # The tied keys are all there and share one storage, as in old checkpoints.
    save_with_state(output / "led_pickle", config, model.state_dict(), "pytorch_model.bin", torch.save)
    for name, dtype in (("led_f16", torch.float16), ("led_bf16", torch.bfloat16)):
        LEDForConditionalGeneration.from_pretrained(output / "led_safetensors", dtype=dtype).save_pretrained(output / name)
    without_bias = {name: value for name, value in untied.items() if name != "final_logits_bias"}
    save_with_state(output / "led_without_bias", config, without_bias, "model.safetensors")
    model.led.save_pretrained(output / "led_without_head")


def expected_led(output, rng):
    """Logits of every LED directory, as `from_pretrained` reads it into float32."""
    documents = draw_documents(rng, LED, [31, 4, 20])
    for directory in sorted(output.glob("led_*")):
        model, info = LEDForConditionalGeneration.from_pretrained(
            directory, dtype=torch.float32, output_loading_info=True
        )
        missing = set(info["missing_keys"]) - {"final_logits_bias", *hashed_weights.TIED}
        assert "final_logits_bias" not in info["missing_keys"] or not model.final_logits_bias.any()
        assert not missing and not info["unexpected_keys"] and not info["mismatched_keys"], (directory, info)
        yield directory.name, documents, reference_model.run_alone(model.eval(), LED, documents)[0]


def make(output):
    directory = output / "models"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    rng = random.Random(5)
    save_led(directory)
    bart = foreign_models.save_bart(directory, SIZES, WEIGHTS)
    foreign_models.save_allenai(directory, LED, WEIGHTS)
    with torch.no_grad():
        expected = list(expected_led(directory, rng))
        # allenai's model is the same as led_safetensors, under other names.
        _, documents, logits = next(entry for entry in expected if entry[0] == "led_safetensors")
        expected.append(("allenai", documents, logits))
        documents = draw_documents(rng, SIZES, [30, 7, 19])
        expected.append(("bart", documents, foreign_models.expected_bart(bart, LED, documents)))
    cases = [{"name": name, "documents": documents} for name, documents, _ in expected]
    tensors = {f"{name}.logits": torch.cat(logits) for name, _, logits in expected}
    reference_model.write(directory / "logits", cases, tensors)
    for file in directory.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    print(f"models: {', '.join(name for name, _, _ in expected)}")
