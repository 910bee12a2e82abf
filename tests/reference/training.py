"""training.json: ten AdamW steps of three models, with clipping, label smoothing and accumulation over uneven batches."""

import random

import torch
from transformers import get_scheduler

import dense_attention
import random_cases
import reference_model

STEPS = 10
SAMPLES = 8
TOLERANCE = 1e-5
OPTIMIZERS = [
    {"learning_rate": 1e-3, "lr_scheduler_type": "constant", "warmup_steps": 0},
    {"learning_rate": 5e-3, "lr_scheduler_type": "linear", "warmup_steps": 3},
    {"learning_rate": 2e-3, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2},
]
SHARED_OPTIONS = {
    "weight_decay": 0.01,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "label_smoothing_factor": 0.1,
}


def draw_case(rng, index):
    config = random_cases.draw_config(rng, d_models=(8, 12, 16), layers=(1, 2), vocab=(40, 70))
    while min(reference_model.windows(config)) == 2:
        config["attention_window"] = random_cases.draw_window(rng, config["encoder_layers"])
    run = {"batch_size": [1, 2, 3][index], "gradient_accumulation_steps": 2, "max_steps": STEPS}
    documents = []
    for place in range(run["batch_size"] * run["gradient_accumulation_steps"] * STEPS):
        # Few targets in one micro-batch, many in the other, so that averaging averages would show.
        targets = rng.randint(1, 4) if place // run["batch_size"] % 2 else rng.randint(6, 14)
        documents.append(random_cases.draw_document(rng, config, rng.randint(3, 40), targets))
        if place % 2 == 0:
            document = documents[-1]
            document["global_positions"] = sorted({0, *document["global_positions"]})
    config["max_encoder_position_embeddings"] = max(len(document["input_ids"]) for document in documents)
    config["max_decoder_position_embeddings"] = max(len(document["labels"]) for document in documents)
    return {
        "name": f"training_{index}",
        "config": config,
        "weights": random_cases.draw_weights(rng, config["d_model"]),
        "optim": OPTIMIZERS[index] | SHARED_OPTIONS,
        "run": run,
        "documents": documents,
    }


def is_decayed(name):
    return not name.endswith(".bias") and "layer_norm" not in name and "layernorm" not in name


def adamw(model, optim):
    parameters = reference_model.parameters(model)
    groups = [
        {"params": [value for name, value in parameters if is_decayed(name)], "weight_decay": optim["weight_decay"]},
        {"params": [value for name, value in parameters if not is_decayed(name)], "weight_decay": 0.0},
    ]
    betas = (optim["adam_beta1"], optim["adam_beta2"])
    return torch.optim.AdamW(groups, lr=optim["learning_rate"], betas=betas, eps=optim["adam_epsilon"])


def micro_batches(case, step):
    size, count = case["run"]["batch_size"], case["run"]["gradient_accumulation_steps"]
    start = step * size * count
    return [case["documents"][start + micro * size : start + (micro + 1) * size] for micro in range(count)]


def train(case, run, dtype=torch.float32):
    """Per-step values, and the model after the last step."""
    optim = case["optim"]
    model = reference_model.build_for(case["config"], case["weights"], case["documents"]).to(dtype)
    optimizer = adamw(model, optim)
    scheduler = get_scheduler(optim["lr_scheduler_type"], optimizer, optim["warmup_steps"], STEPS)
    history = []
    for step in range(STEPS):
        batches = micro_batches(case, step)
        tokens = reference_model.target_count(sum(batches, []))
        loss = 0.0
        for documents in batches:
            logits, _ = run(model, case["config"], documents)
            share = reference_model.summed_loss(logits, documents, optim["label_smoothing_factor"]) / tokens
            share.backward()
            loss += share.item()
        values = [value for _, value in reference_model.parameters(model)]
        norm = torch.nn.utils.clip_grad_norm_(values, optim["max_grad_norm"]).item()
        rate = scheduler.get_last_lr()[0]
        history.append({"loss": loss, "grad_norm": norm, "learning_rate": rate, "target_tokens": tokens})
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
    return history, model


def worst_difference(history, exact):
    return max(
        abs(these[key] - those[key]) / max(1.0, abs(those[key]))
        for these, those in zip(history, exact)
        for key in ("loss", "grad_norm", "learning_rate")
    )


def own_rows(case, name, value):
    """Without the rows that only the reference's padding needs."""
    side = "encoder" if "encoder" in name else "decoder"
    rows = case["config"][f"max_{side}_position_embeddings"]
    return value[:rows] if name.endswith("embed_positions.weight") else value


def sample(rng, case, model, exact):
    """Some entries of every parameter, of those that float32 and float64 agree on.

    AdamW divides a gradient by its own size, so that entries whose gradient is rounding (all biases of keys, and a few
    elsewhere) move at random by up to the learning rate.
    """
    reference = dict(reference_model.parameters(exact))
    sampled, kept, total = {}, 0, 0
    for name, parameter in reference_model.parameters(model):
        value = own_rows(case, name, parameter.detach()).flatten()
        close = (value - own_rows(case, name, reference[name].detach()).flatten()).abs() < TOLERANCE
        total, kept = total + len(close), kept + int(close.sum())
        if not name.endswith(("key.bias", "key_global.bias", "k_proj.bias")):
            places = close.nonzero()[:, 0].tolist()
            indices = sorted(rng.sample(places, min(SAMPLES, len(places))))
            sampled[name] = {"indices": indices, "values": value[indices].tolist()}
    return sampled, kept / total


def make(output):
    rng = random.Random(3)
    cases = []
    for index in range(len(OPTIMIZERS)):
        while True:
            case = draw_case(rng, index)
            history, model = train(case, reference_model.run_alone)
            batched, _ = train(case, reference_model.run)
            with dense_attention.installed(torch.float64):
                exact_history, exact = train(case, reference_model.run_alone, torch.float64)
            difference = max(worst_difference(these, exact_history) for these in (history, batched))
            if difference <= TOLERANCE:
                break
            print(f"{case['name']} drawn again: differences of {difference:.1e}")
        case["steps"] = history
        case["parameters"], kept = sample(rng, case, model, exact)
        cases.append(case)
        print(f"{case['name']}: within {difference:.1e} of float64; {kept:.1%} of the parameters within {TOLERANCE}")
    reference_model.write(output / "training", cases)
