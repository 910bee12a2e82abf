"""generate.json: what random small models generate, over the decoding options of the command line."""

import collections
import random

import random_cases
import reference_model
import watched_generation

MODELS = 30
CASES_PER_MODEL = 5
LONGEST = 48
TOLERANCE = 1e-4
# The library cannot tell this from no `max_length` at all, and then allows that many *new* tokens.
LIBRARY_MAX_LENGTH = 20


def draw_model(rng):
    config = random_cases.draw_config(rng, layers=(1, 2), vocab=(40, 120))
    while min(reference_model.windows(config)) == 2 or max(reference_model.windows(config)) > 32:
        config["attention_window"] = random_cases.draw_window(rng, config["encoder_layers"])
    config["max_encoder_position_embeddings"] = rng.choice([24, LONGEST, LONGEST])
    config["max_decoder_position_embeddings"] = rng.choice([16, 40, 40])
    weights = random_cases.draw_weights(rng, config["d_model"])
    weights["eos_bias"] = rng.choice([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    return config, weights


def draw_options(rng, vocab):
    """Each rule is on in a part of the cases, with values that make it bite."""
    beams = rng.choice([1, 2, 3, 4, 4, 5])
    limit = rng.choice([rng.randint(3, 12), rng.randint(12, 32)])
    options = {"num_beams": beams, rng.choice(["max_length", "max_new_tokens"]): limit}
    if options.get("max_length") == LIBRARY_MAX_LENGTH:
        options["max_length"] += 1
    if beams > 1:
        options["early_stopping"] = rng.choice([True, False, "never"])
        options["num_return_sequences"] = rng.choice([1, rng.randint(1, beams)])
    if rng.random() < 0.6:
        options["length_penalty"] = rng.choice([-1.0, 0.0, 0.5, 0.8, 1.5, 2.0, 3.0])
    if rng.random() < 0.4:
        options["no_repeat_ngram_size"] = rng.choice([1, 2, 3, 3])
    if rng.random() < 0.25:
        options["encoder_no_repeat_ngram_size"] = rng.choice([1, 2, 2, 3])
    if rng.random() < 0.35:
        options["repetition_penalty"] = rng.choice([0.8, 1.1, 1.3, 2.0])
    if rng.random() < 0.35:
        options[rng.choice(["min_length", "min_new_tokens"])] = rng.randint(1, limit - 1)
    if rng.random() < 0.25:
        options["forced_bos_token_id"] = rng.choice([0, 0, rng.randrange(3, vocab)])
    if rng.random() < 0.3:
        options["forced_eos_token_id"] = rng.choice([2, 2, rng.randrange(3, vocab)])
    return options


def draw_documents(rng, config):
    documents = []
    for _ in range(rng.choice([2, 2, 3, 4])):
        document = random_cases.draw_document(rng, config, rng.randint(3, LONGEST), 1)
        del document["labels"]
        documents.append(document)
    return documents


def same(these, those):
    return [tokens for tokens, _ in these] == [tokens for tokens, _ in those] and all(
        abs(one - other) < TOLERANCE * max(1.0, abs(one)) for (_, one), (_, other) in zip(these, those)
    )


def generate_case(model, config, documents, options):
    """Expected hypotheses of the documents, generated alone, without a cache, and how many of them differ in a batch with a
    cache; None where a decision was close."""
    model.close = False
    alone = [
        watched_generation.generate(model, reference_model.encoder_inputs(config, [document]), options, False)[0]
        for document in documents
    ]
    if model.close or any(len(found) < options.get("num_return_sequences", 1) for found in alone):
        return None
    batch = watched_generation.generate(model, reference_model.encoder_inputs(config, documents), options, True)
    differing = sum(not same(found, other) for found, other in zip(alone, batch))
    # encoder_no_repeat_ngram_size takes the padding of a batch for a part of the document.
    assert differing == 0 or "encoder_no_repeat_ngram_size" in options, (options, alone, batch)
    return alone, differing


def describe(cases):
    """Counts that show that the cases are not all alike."""
    counts = collections.Counter()
    for case in cases:
        limit = case["options"].get("max_new_tokens", case["options"].get("max_length", 0) - 1)
        for document in case["documents"]:
            tokens = document["hypotheses"][0][0]
            ended = tokens[-1] == case["config"]["eos_token_id"]
            counts["ended early" if ended and len(tokens) < limit / 2 else "ended later" if ended else "cut"] += 1
            counts["documents"] += 1
            counts["hypotheses"] += len(document["hypotheses"])
            counts["generated beyond the table"] += len(tokens) > case["config"]["max_decoder_position_embeddings"]
    return dict(counts)


def make(output):
    rng = random.Random(4)
    cases, differing, dropped = [], 0, 0
    for _ in range(MODELS):
        config, weights = draw_model(rng)
        rows = LONGEST + reference_model.chunk(config)
        model = reference_model.build(config, weights, rows, LONGEST, watched_generation.WatchedLed)
        wanted = len(cases) + CASES_PER_MODEL
        while len(cases) < wanted:
            documents, options = draw_documents(rng, config), draw_options(rng, config["vocab_size"])
            result = generate_case(model, config, documents, options)
            if result is None:
                dropped += 1
                continue
            found, differing_here = result
            differing += differing_here
            documents = [document | {"hypotheses": hypotheses} for document, hypotheses in zip(documents, found)]
            name = f"generate_{len(cases):03}"
            cases.append({"name": name, "config": config, "weights": weights, "options": options, "documents": documents})
    reference_model.write(output / "generate", cases)
    print(f"generate: {len(cases)} cases, {describe(cases)}; {dropped} drawn again, {differing} differ in a batch")
