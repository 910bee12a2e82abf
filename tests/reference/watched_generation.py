"""LED whose `generate` notes when a decision was too close to be the same in another implementation."""

import torch
from transformers import GenerationConfig, LEDForConditionalGeneration

# Scores are sums of float32 log-probabilities, which implementations compute with errors around 1e-6 each.
CLOSE = 1e-4
# The reference fills empty slots and forbidden continuations with scores around -1e9.
PLACEHOLDER = -1e8


class WatchedLed(LEDForConditionalGeneration):
    """`close` is set by two candidates, two finished hypotheses, or the two sides of the stopping rule within CLOSE."""

    close = False

    def watch(self, scores):
        """Notes neighbours within CLOSE; `scores` is [documents, candidates]."""
        for row in scores:
            row = torch.sort(row[row > PLACEHOLDER]).values
            self.close |= bool((row[1:] - row[:-1] < CLOSE).any())

    def _get_top_k_continuations(self, accumulated_log_probs, **rest):
        count = min(rest["beams_to_keep"] + 1, accumulated_log_probs.shape[1])
        self.watch(torch.topk(accumulated_log_probs, count).values)
        return super()._get_top_k_continuations(accumulated_log_probs=accumulated_log_probs, **rest)

    def _update_finished_beams(self, **rest):
        with_next = super()._update_finished_beams(**{**rest, "num_beams": rest["num_beams"] + 1})
        self.watch(with_next[1])
        return super()._update_finished_beams(**rest)

    def _check_early_stop_heuristic(self, **rest):
        longest = rest["early_stopping"] == "never" and rest["length_penalty"] > 0
        length = (rest["max_length"] if longest else rest["cur_len"]) - rest["decoder_prompt_len"]
        best = rest["running_beam_scores"][:, 0] / length ** rest["length_penalty"]
        worst = rest["beam_scores"].min(dim=1).values
        searching = rest["is_early_stop_heuristic_unsatisfied"][:, 0]
        self.close |= bool((((best - worst).abs() < CLOSE) & searching).any())
        return super()._check_early_stop_heuristic(**rest)

    def _get_logits_processor(self, *arguments, **rest):
        self.processors = super()._get_logits_processor(*arguments, **rest)
        return self.processors


def without_padding(tokens, eos):
    """Generated tokens: the decoder start token left out, nothing after the first end token."""
    tokens = tokens[1:]
    return tokens[: tokens.index(eos) + 1] if eos in tokens else tokens


def greedy_score(model, found, row, tokens, options):
    """The score that beam search would give: processed log-probabilities, summed, over length ** length_penalty."""
    total = 0.0
    for step, token in enumerate(tokens):
        processed = model.processors(found.sequences[:, : step + 1], found.logits[step].log_softmax(-1))
        total += processed[row, token].item()
        best = torch.topk(found.scores[step][row], 2).values
        model.close |= bool(best[0] - best[1] < CLOSE)
    return total / len(tokens) ** options.get("length_penalty", 1.0)


def generate(model, inputs, options, use_cache):
    """For each document its hypotheses, best first: [tokens, score]. Placeholders are left out."""
    config = GenerationConfig(
        **options, return_dict_in_generate=True, output_scores=True, output_logits=True, use_cache=use_cache,
        decoder_start_token_id=model.config.decoder_start_token_id, bos_token_id=model.config.bos_token_id,
        pad_token_id=model.config.pad_token_id, eos_token_id=model.config.eos_token_id, do_sample=False,
    )
    with torch.no_grad():
        found = model.generate(**inputs, generation_config=config)
    count = options.get("num_return_sequences", 1)
    results = [[] for _ in inputs["input_ids"]]
    for row, sequence in enumerate(found.sequences.tolist()):
        tokens = without_padding(sequence, model.config.eos_token_id)
        if options.get("num_beams", 1) == 1:
            score = greedy_score(model, found, row, tokens, options)
        else:
            score = found.sequences_scores[row].item()
        if score > PLACEHOLDER:
            results[row // count].append([tokens, score])
    return results
