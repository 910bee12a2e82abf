"""gradients.json and gradients.safetensors: losses and the gradient of every parameter, with and without label smoothing."""

import random

import torch

import dense_attention
import random_cases
import reference_model

CASES = 6
SMOOTHING = [0.0, 0.1]
TOLERANCE = 1e-5
# A gradient this much smaller than the largest one is zero but for rounding: key biases, which no softmax sees.
VANISHING = 1e-9


def draw_case(rng, index):
    config = random_cases.draw_config(rng, d_models=(8, 12, 16), layers=(1, 2) if index < 3 else (2, 3), vocab=(40, 60))
    while min(reference_model.windows(config)) == 2:
        config["attention_window"] = random_cases.draw_window(rng, config["encoder_layers"])
    documents = []
    for _ in range([1, 3, 2, 2, 3, 2][index]):
        length = random_cases.draw_length(rng, rng.choice(reference_model.windows(config)), 60)
        documents.append(random_cases.draw_document(rng, config, length, rng.randint(4, 12)))
        documents[-1]["global_positions"] = draw_global_positions(rng, index, length)
    if index in (1, 3, 5):
        for document in documents[:2]:
            ignore_some(rng, document["labels"])
    config["max_encoder_position_embeddings"] = max(len(document["input_ids"]) for document in documents)
    config["max_decoder_position_embeddings"] = max(len(document["labels"]) for document in documents)
    if index == 4:
        config["max_encoder_position_embeddings"] //= 3
        config["max_decoder_position_embeddings"] //= 2
    return {
        "name": f"gradients_{index}",
        "config": config,
        "weights": random_cases.draw_weights(rng, config["d_model"]),
        "documents": documents,
    }


def draw_global_positions(rng, index, length):
    """None in the whole of case 2, several in cases 0 and 3, anything elsewhere."""
    if index == 2:
        return []
    if index in (0, 3):
        return sorted({0, *rng.sample(range(length), min(length, 4))})
    return random_cases.draw_global_positions(rng, length)


def ignore_some(rng, labels):
    for place in rng.sample(range(1, len(labels)), rng.randint(1, len(labels) // 2)):
        labels[place] = reference_model.IGNORED


def loss_and_gradients(run, case, smoothing, dtype=torch.float32):
    """The mean loss over target tokens, and a gradient (or None) for each parameter."""
    documents = case["documents"]
    model = reference_model.build_for(case["config"], case["weights"], documents).to(dtype)
    logits, _ = run(model, case["config"], documents)
    loss = reference_model.summed_loss(logits, documents, smoothing) / reference_model.target_count(documents)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in reference_model.parameters(model)}
    for side in ("encoder", "decoder"):
        name = f"led.{side}.embed_positions.weight"
        gradients[name] = folded(gradients[name], case["config"][f"max_{side}_position_embeddings"])
    return loss.item(), gradients


def folded(gradient, rows):
    """The gradient of a table of `rows` rows that the reference was given tiled."""
    places = torch.arange(len(gradient)) % rows
    return torch.zeros(rows, gradient.shape[1], dtype=gradient.dtype).index_add(0, places, gradient)


def exact(case, smoothing):
    with dense_attention.installed(torch.float64):
        return loss_and_gradients(reference_model.run_alone, case, smoothing, torch.float64)


def relative_difference(gradients, reference, skipped):
    """Largest over parameters of max|a - b| / max|b|."""
    return max(
        ((gradients[name] - value).abs().max() / value.abs().max()).item()
        for name, value in reference.items()
        if value is not None and name not in skipped
    )


def check_library_loss(case, loss):
    """`labels=` of the library gives the same loss without smoothing."""
    config, documents = case["config"], case["documents"]
    model = reference_model.build_for(config, case["weights"], documents)
    inputs = reference_model.encoder_inputs(config, documents)
    own = model(**inputs, labels=reference_model.padded_labels(documents)).loss.item()
    assert abs(own - loss) < TOLERANCE, (case["name"], own, loss)


def compute(case):
    """Losses and gradients of documents run alone, and the largest difference to the batch and to dense float64."""
    tensors, losses, worst = {}, [], 0.0
    for smoothing in SMOOTHING:
        loss, gradients = loss_and_gradients(reference_model.run_alone, case, smoothing)
        _, batch = loss_and_gradients(reference_model.run, case, smoothing)
        exact_loss, reference = exact(case, smoothing)
        if smoothing == 0.0:
            check_library_loss(case, loss)
        largest = max(value.abs().max() for value in reference.values() if value is not None)
        vanishing = [
            name for name, value in reference.items() if value is not None and value.abs().max() < VANISHING * largest
        ]
        differences = [relative_difference(these, reference, vanishing) for these in (gradients, batch)]
        worst = max(worst, abs(loss - exact_loss), *differences)
        losses.append(loss)
        for name, value in gradients.items():
            if value is not None and name not in vanishing:
                tensors[f"{case['name']}.{smoothing}.{name}"] = value
    case["losses"] = dict(zip(map(str, SMOOTHING), losses))
    case["vanishing"] = vanishing
    case["without_gradient"] = [name for name, value in gradients.items() if value is None]
    return tensors, worst


def make(output):
    rng = random.Random(2)
    cases, tensors, worst = [], {}, 0.0
    for index in range(CASES):
        while True:
            case = draw_case(rng, index)
            expected, difference = compute(case)
            if difference <= TOLERANCE:
                break
            print(f"{case['name']} drawn again: relative differences of {difference:.1e}")
        worst = max(worst, difference)
        cases.append(case)
        tensors.update(expected)
    reference_model.write(output / "gradients", cases, tensors)
    print(f"gradients: {len(cases)} cases, alone, batch and dense float64 within {worst:.1e}")
