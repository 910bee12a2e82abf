"""Does the bundled model collapse on texts of every kind?

    python3 eval/collapse.py documents DATA > documents.jsonl
    epitome decode --attribute --input documents.jsonl --output summaries.jsonl
    python3 eval/collapse.py check documents.jsonl summaries.jsonl

`documents` writes 500 records: test records of eight sets under DATA (by the program `zstd`), this repository's source files,
`eval/samples/languages.jsonl`, single words and other oddities, and two texts of 200,000 words. `check` prints a table by kind and
ends with 1 if a summary is empty, holds a character that is none (U+FFFD), or runs in a loop: the same one to twenty words three
times or more in a row, where the document does not say so itself. Python 3.9 or later, standard library only.
"""

import json
import pathlib
import random
import subprocess
import sys
from collections import defaultdict

HERE = pathlib.Path(__file__).parent
SETS = {
    "elife": 55,
    "sumpubmed": 55,
    "qmsum": 55,
    "squality": 55,
    "beigebook": 50,
    "scisummnet": 55,
    "acl_titles": 50,
    "scitldr": 50,
}
ODDITIES = [
    "Photosynthesis",
    "no",
    "7",
    "?",
    "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch",
    "\U0001f600 \U0001f680 \U0001f600 \U0001f680 \U0001f600",
    "word " * 3000,
    "A" * 20000,
    "0 1 2 3 4 5 6 7 8 9 " * 500,
    "\n\n\n.\n\n\n.\n",
    "Dear Ms Ito,\n\nthank you for the parcel. It came on Tuesday, quite dry in spite of the rain.\n\nYours,\nPaul",
    "| year | rain |\n|---|---|\n" + "".join(f"| {year} | {year * 37 % 211} |\n" for year in range(1900, 2000)),
]
LONG_WORDS = 200_000
SHORTEST_LOOP = 3
LONGEST_UNIT = 20


def records(path):
    text = subprocess.run(["zstd", "-dc", "--long=27", path], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in text.splitlines()]


def emit(kind, number, record):
    kept = {key: record[key] for key in ("document", "documents", "query") if record.get(key)}
    print(json.dumps({"id": f"{kind}/{number}", **kept}, ensure_ascii=False))


def documents(data):
    written = 0
    long = {}
    for name, count in SETS.items():
        found = records(pathlib.Path(data) / name / "test.jsonl.zst")
        for number, record in enumerate(found[:count]):
            emit(name, number, record)
            written += 1
        long[name] = " ".join(record.get("document", "") for record in found).split()
    for number, line in enumerate(open(HERE / "samples" / "languages.jsonl", encoding="utf-8")):
        emit("language", number, json.loads(line))
        written += 1
    for number, text in enumerate(ODDITIES):
        emit("oddity", number, {"document": text})
        written += 1
    for number, name in enumerate(("elife", "squality")):
        emit("200,000 words", number, {"document": " ".join(long[name][:LONG_WORDS])})
        written += 1
    sources = sorted((HERE.parent / "crates").glob("*/src/**/*.rs"))
    random.Random(0).shuffle(sources)
    for number, path in enumerate(sources[: 500 - written]):
        emit("code", number, {"document": path.read_text(encoding="utf-8")})


def longest_loop(words):
    """The greatest number of times in a row that one to twenty words stand, and these words."""
    most, unit = 1, []
    for length in range(1, LONGEST_UNIT + 1):
        run = 0
        for place in range(length, len(words)):
            run = run + 1 if words[place] == words[place - length] else 0
            if run // length + 1 > most:
                most, unit = run // length + 1, words[place - length + 1 : place + 1]
    return most, unit


def repeated(words, size=4):
    grams = [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def faults(document, summary):
    text = summary["summary"]
    found = []
    if not text.strip():
        found.append("empty")
    if "\ufffd" in text and "\ufffd" not in document:
        found.append("not a character")
    most, unit = longest_loop(text.split())
    if most >= SHORTEST_LOOP and " ".join(unit * SHORTEST_LOOP) not in " ".join(document.split()):
        found.append(f"{most} times in a row: {' '.join(unit)}")
    if text.strip() and not any(sentence["passages"] for sentence in summary["attribution"]):
        found.append("no source passage")
    return found


def check(documents_path, summaries_path):
    sources = {}
    for line in open(documents_path, encoding="utf-8"):
        record = json.loads(line)
        sources[record["id"]] = "\n".join(record.get("documents", [record.get("document", "")]))
    table = defaultdict(list)
    failed = 0
    for line in open(summaries_path, encoding="utf-8", errors="strict"):
        summary = json.loads(line)
        found = faults(sources.pop(summary["id"]), summary)
        words = summary["summary"].split()
        table[summary["id"].split("/")[0]].append((len(words), repeated(words), summary["ended"], bool(found)))
        for fault in found:
            failed += 1
            print(f"{summary['id']}: {fault}", file=sys.stderr)
    print("| kind | documents | words, mean (least to most) | 4-grams said before | ended by itself | faults |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind, rows in table.items():
        lengths, again, ended, bad = zip(*rows)
        mean = sum(lengths) / len(rows)
        print(
            f"| {kind} | {len(rows)} | {mean:.0f} ({min(lengths)} to {max(lengths)}) | {100 * sum(again) / len(rows):.1f} % "
            f"| {100 * sum(ended) / len(rows):.0f} % | {sum(bad)} |"
        )
    if sources:
        print(f"{len(sources)} documents have no summary", file=sys.stderr)
    return failed + len(sources)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "documents":
        documents(sys.argv[2])
    elif len(sys.argv) == 4 and sys.argv[1] == "check":
        sys.exit(1 if check(sys.argv[2], sys.argv[3]) else 0)
    else:
        sys.exit(__doc__)
