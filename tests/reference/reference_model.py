"""LED of `transformers` with hashed weights, run on lists of documents."""

import copy
import json
import math
import platform

import numpy
import torch
import transformers
from safetensors.torch import save_file
from transformers import LEDConfig, LEDForConditionalGeneration
from transformers.models.led.modeling_led import shift_tokens_right

import hashed_weights

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

IGNORED = -100


def made_with():
    return {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "device": "cpu",
        "dtype": "float32",
    }


def windows(config):
    window = config["attention_window"]
    return [window] * config["encoder_layers"] if isinstance(window, int) else window


def chunk(config):
    """What the length of a batch must be a multiple of, in the reference: every layer's window."""
    return math.lcm(*windows(config))


def build(config, weights, encoder_rows=0, decoder_rows=0, model_class=LEDForConditionalGeneration):
    """The model in eval mode. Position tables are tiled where more rows are asked for than the config has."""
    settings = copy.deepcopy(config)
    tables = {"max_encoder_position_embeddings": encoder_rows, "max_decoder_position_embeddings": decoder_rows}
    for field, rows in tables.items():
        settings[field] = max(rows, config[field])
    model = model_class(LEDConfig.from_dict(settings)).eval()
    state = {}
    for name, value in model.state_dict().items():
        shape = list(value.shape)
        side = "encoder" if "encoder" in name else "decoder"
        if name.endswith("embed_positions.weight"):
            shape[0] = config[f"max_{side}_position_embeddings"]
        values = hashed_weights.tensor(name, shape, weights, config["eos_token_id"])
        repeats = -(-value.shape[0] // shape[0]) if shape else 1
        state[name] = torch.from_numpy(numpy.concatenate([values] * repeats)[: value.shape[0]])
    model.load_state_dict(state, strict=True)
    return model


def build_for(config, weights, documents):
    """As `build`, with tables long enough for these documents and the reference's padding."""
    longest = max(len(document["input_ids"]) for document in documents)
    targets = max((len(document.get("labels", [])) for document in documents), default=0)
    return build(config, weights, longest + chunk(config), targets)


def encoder_inputs(config, documents):
    """Documents padded on the right. The reference pads to a multiple of the largest window itself, which is enough only
    where the other windows divide it."""
    length = max(len(document["input_ids"]) for document in documents)
    if chunk(config) != max(windows(config)):
        length = -(-length // chunk(config)) * chunk(config)
    shape = (len(documents), length)
    ids = torch.full(shape, config["pad_token_id"])
    mask = torch.zeros(shape, dtype=torch.long)
    global_mask = torch.zeros(shape, dtype=torch.long)
    for row, document in enumerate(documents):
        tokens = document["input_ids"]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        global_mask[row, document["global_positions"]] = 1
    return {"input_ids": ids, "attention_mask": mask, "global_attention_mask": global_mask}


def padded_labels(documents):
    longest = max(len(document["labels"]) for document in documents)
    rows = [document["labels"] + [IGNORED] * (longest - len(document["labels"])) for document in documents]
    return torch.tensor(rows)


def run(model, config, documents):
    """Logits [T, V] and encoder states [N, d] of each document, computed as one batch."""
    labels = padded_labels(documents)
    decoder_input_ids = shift_tokens_right(labels, config["pad_token_id"], config["decoder_start_token_id"])
    output = model(**encoder_inputs(config, documents), decoder_input_ids=decoder_input_ids, use_cache=False)
    logits = [output.logits[row, : len(document["labels"])] for row, document in enumerate(documents)]
    hidden = output.encoder_last_hidden_state
    states = [hidden[row, : len(document["input_ids"])] for row, document in enumerate(documents)]
    return logits, states


def run_alone(model, config, documents):
    """As `run`, every document in a batch of its own."""
    results = [run(model, config, [document]) for document in documents]
    return [logits[0] for logits, _ in results], [states[0] for _, states in results]


def target_count(documents):
    return sum(label != IGNORED for document in documents for label in document["labels"])


def summed_loss(logits, documents, smoothing):
    """Sum over the target tokens of (1 - e) NLL + (e / V) sum(-log p)."""
    total = 0.0
    for rows, document in zip(logits, documents):
        labels = torch.tensor(document["labels"])
        kept = labels != IGNORED
        log_probs = torch.log_softmax(rows[kept], dim=-1)
        nll = -log_probs.gather(1, labels[kept][:, None])[:, 0]
        total = total + ((1.0 - smoothing) * nll - smoothing * log_probs.mean(dim=-1)).sum()
    return total


def parameters(model):
    """Name and parameter, the shared embedding once and under its own name."""
    return [(name, parameter) for name, parameter in model.named_parameters() if name not in hashed_weights.TIED]


def write(path, cases, tensors=None, **fields):
    """`path`.json, one case a line, and `path`.safetensors."""
    head = json.dumps({"made_with": made_with(), **fields})[:-1]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    with open(f"{path}.json", "w") as file:
        file.write(f'{head}, "cases": [\n{lines}\n]}}\n')
    if tensors:
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, f"{path}.safetensors")
