"""Compares this crate with Python's rouge_score on real pairs, words and long texts.

    cargo build --release -p rouge --examples
    python crates/rouge/tests/compare.py RECORDS... [--limit N] [--large] [--examples DIR]

RECORDS are JSON Lines files (plain, or .zst where the zstd program is installed) whose objects have `document` (or
`documents`) and `summary`. From every record come three predictions against the summary: the first sentences of the
document, its last words on one line, and the summary of the record before. Sentences go on lines, split at `. `.
Every different word of the texts, and 300,000 made-up ones, are stemmed by both. `--large` adds texts of 100,000 words
(minutes, and 10 GB, of Python). Prints the largest difference and both speeds; exits 1 if a difference exceeds 1e-9.

Made with Python 3.11, nltk 3.10.4, rouge_score 0.1.2.
"""

import argparse
import io
import json
import os
import random
import re
import subprocess
import sys
import time

from nltk.stem.porter import PorterStemmer
from rouge_score import rouge_scorer

TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")


def records(path, limit):
    if path.endswith(".zst"):
        process = subprocess.Popen(["zstd", "-dc", "--long=27", path], stdout=subprocess.PIPE)
        lines = io.TextIOWrapper(process.stdout, encoding="utf-8")
    else:
        lines = open(path, encoding="utf-8")
    for index, line in enumerate(lines):
        if index == limit:
            break
        record = json.loads(line)
        document = record.get("document") or "\n".join(record["documents"])
        yield document, record["summary"]


def on_lines(text):
    return re.sub(r"([.!?]) +", r"\1\n", text)


def pairs_of(path, limit):
    previous = None
    for document, summary in records(path, limit):
        reference = on_lines(summary)
        words = len(summary.split())
        lead, count = [], 0
        for sentence in on_lines(document).split("\n"):
            if count >= words:
                break
            lead.append(sentence)
            count += len(sentence.split())
        yield reference, "\n".join(lead)
        yield reference, " ".join(document.split()[-words:])
        if previous is not None:
            yield reference, previous
        previous = reference


def large_pairs(texts):
    """A real text of 100,000 words against short and against middling ones, on one line and on many."""
    words = on_lines("\n".join(texts)).replace("\n", " \n ").split(" ")
    many = " ".join(words[:108_000])
    one = many.replace("\n", " ")
    short = " ".join(words[200_000:200_320])
    middling = " ".join(words[210_000:211_500])
    yield short, many
    yield many, short
    yield one, short.replace("\n", " ")
    yield middling.replace("\n", " "), one
    half = " ".join(words[300_000:304_000]).replace("\n", " ")
    yield half, " ".join(words[310_000:314_000]).replace("\n", " ")


def escaped(text):
    for character, code in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(character, code)
    return text


def example(name, examples, lines, *arguments):
    """Output lines and standard error of one of the crate's examples."""
    program = os.path.join(examples, name)
    done = subprocess.run([program, *arguments], input="\n".join(lines) + "\n", capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout.split("\n")[:-1], done.stderr.strip()


def compare_scores(label, pairs, examples):
    lines = [escaped(reference) + "\t" + escaped(prediction) for reference, prediction in pairs]
    worst = 0.0
    for stem in (False, True):
        scorer = rouge_scorer.RougeScorer(TYPES, use_stemmer=stem)
        start = time.perf_counter()
        expected = [scorer.score(reference, prediction) for reference, prediction in pairs]
        seconds = time.perf_counter() - start
        arguments = ["--stemmer"] if stem else []
        found, single = example("score_tsv", examples, lines, "--threads", "1", *arguments)
        _, parallel = example("score_tsv", examples, lines, *arguments)
        difference = max(
            abs(float(ours) - theirs)
            for row, scores in zip(found, expected, strict=True)
            for ours, theirs in zip(row.split("\t"), (v for kind in TYPES for v in scores[kind]), strict=True)
        )
        ours = float(single.split()[-2])
        print(
            f"{label}, {'stemmed' if stem else 'not stemmed'}: {len(pairs)} pairs, largest difference {difference:.1e}; "
            f"rouge_score {seconds:.2f} s, rouge one thread {ours:.4f} s ({seconds / ours:.0f} times), "
            f"all threads {parallel.split()[-2]} s",
            flush=True,
        )
        worst = max(worst, difference)
    return worst


def made_up_words(count):
    random_ = random.Random(5)
    parts = """a e i o u y b c d g l m n r s t x z 1 at bl iz ed ing ied eed ies sses ss ational tional enci anci izer bli
        alli entli eli ousli ization ation ator alism iveness fulness ousness aliti iviti biliti fulli logi icate ative
        alize iciti ical ful ness al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize ll""".split()
    return ["".join(random_.choice(parts) for _ in range(random_.randint(1, 7))) for _ in range(count)]


def compare_words(words, examples):
    words = sorted(word for word in words if len(word) > 3)
    stemmer = PorterStemmer()
    found, _ = example("tokens", examples, words, "--stemmer")
    differing = [(word, ours) for word, ours in zip(words, found, strict=True) if stemmer.stem(word) != ours]
    print(f"{len(words)} different words stemmed, {len(differing)} differ {differing[:5]}", flush=True)
    return len(differing)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("records", nargs="+")
    parser.add_argument("--limit", type=int, default=-1, help="records of each file")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--examples", default=os.path.join(ROOT, "target", "release", "examples"))
    arguments = parser.parse_args()
    worst, words, texts = 0.0, set(made_up_words(300_000)), []
    for path in arguments.records:
        pairs = list(pairs_of(path, arguments.limit))
        worst = max(worst, compare_scores("/".join(path.split("/")[-2:]), pairs, arguments.examples))
        for document, summary in records(path, arguments.limit):
            texts.append(document)
            words.update(re.findall("[a-z0-9]+", (document + " " + summary).lower()))
    differing = compare_words(words, arguments.examples)
    if arguments.large:
        worst = max(worst, compare_scores("100,000 words", list(large_pairs(texts)), arguments.examples))
    sys.exit(1 if worst > 1e-9 or differing else 0)


if __name__ == "__main__":
    main()
