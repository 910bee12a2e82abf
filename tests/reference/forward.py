"""forward.json and forward.safetensors: log-probabilities and encoder states of random small models."""

import contextlib
import random

import torch

import dense_attention
import random_cases
import reference_model

CASES = 72
LONGEST = 150
TOLERANCE = 1e-5


def draw_case(rng, index):
    config = random_cases.draw_config(rng)
    if rng.random() < 0.15:
        config["decoder_start_token_id"] = config["bos_token_id"]
    weights = random_cases.draw_weights(rng, config["d_model"])
    windows = reference_model.windows(config)
    documents = []
    for _ in range(rng.choice([1, 2, 2, 3, 3])):
        length = random_cases.draw_length(rng, rng.choice(windows), LONGEST)
        documents.append(random_cases.draw_document(rng, config, length, rng.randint(1, 14)))
    if index % 12 == 0:
        for document in documents:
            document["global_positions"] = []
    size_tables(rng, config, documents, tiled=index % 10 == 3)
    return {"name": f"forward_{index:02}", "config": config, "weights": weights, "documents": documents}


def size_tables(rng, config, documents, tiled):
    """Tables just long enough, or (tiled) shorter than the longest document and target."""
    for side, field in (("encoder", "input_ids"), ("decoder", "labels")):
        longest = max(len(document[field]) for document in documents)
        rows = rng.randint(max(2, longest // 3), max(2, longest - 1)) if tiled else max(2, longest) + rng.randint(0, 9)
        config[f"max_{side}_position_embeddings"] = rows


def sampled_positions(length):
    return sorted({0, length // 3, 2 * length // 3, length - 1})


def difference(these, those):
    return max((a - b).abs().max().item() for a, b in zip(these, those))


def log_probs_and_states(run, case, model):
    logits, states = run(model, case["config"], case["documents"])
    return [rows.log_softmax(-1) for rows in logits] + states


def compute(case):
    """Expected tensors from documents run alone, and their largest differences to the batch and to dense float64."""
    config, documents = case["config"], case["documents"]
    model = reference_model.build_for(config, case["weights"], documents)
    with torch.no_grad():
        with dense_attention.installed() if min(reference_model.windows(config)) == 2 else contextlib.nullcontext():
            expected = log_probs_and_states(reference_model.run_alone, case, model)
            batch = log_probs_and_states(reference_model.run, case, model)
        with dense_attention.installed(torch.float64):
            dense = log_probs_and_states(reference_model.run_alone, case, model.double())
    count = len(documents)
    sampled = [rows[sampled_positions(len(rows))] for rows in expected[count:]]
    tensors = {"log_probs": torch.cat(expected[:count]), "encoder": torch.cat(sampled)}
    tensors = {f"{case['name']}.{key}": value for key, value in tensors.items()}
    return tensors, difference(expected, batch), difference(expected, dense)


def draw_conditioned_case(rng, index):
    """A case whose expected values are not spoilt by rounding: sharp attention can amplify it to 1e-4."""
    while True:
        case = draw_case(rng, index)
        tensors, *differences = compute(case)
        if max(differences) <= TOLERANCE:
            return case, tensors, differences
        print(f"{case['name']} drawn again: alone differs from batch by {differences[0]:.1e},"
              f" from dense float64 by {differences[1]:.1e}")


def make(output):
    rng = random.Random(1)
    cases, tensors, worst = [], {}, [0.0, 0.0]
    for index in range(CASES):
        case, expected, differences = draw_conditioned_case(rng, index)
        worst = [max(pair) for pair in zip(worst, differences)]
        for document in case["documents"]:
            document["encoder_positions"] = sampled_positions(len(document["input_ids"]))
        cases.append(case)
        tensors.update(expected)
    reference_model.write(output / "forward", cases, tensors)
    print(f"forward: {len(cases)} cases; alone differs from batch by {worst[0]:.1e}, from dense by {worst[1]:.1e}")
