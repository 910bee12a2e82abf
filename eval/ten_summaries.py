"""The first ten summaries of a file beside their references, as Markdown for a model card.

    python3 eval/ten_summaries.py TITLE RECORDS.jsonl.zst SUMMARIES.jsonl

RECORDS are read by the program `zstd`. Python 3.9 or later, standard library only.
"""

import json
import subprocess
import sys


def paragraphs(text):
    """Text as quoted Markdown, with what HTML would take for tags escaped."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
    lines = [line.strip() for line in escaped.splitlines() if line.strip()]
    return "\n>\n".join(f"> {line}" for line in lines) or "> (nothing)"


def main(title, records, summaries):
    text = subprocess.run(["zstd", "-dc", "--long=27", records], check=True, capture_output=True, text=True).stdout
    wanted = [json.loads(line) for line in text.splitlines()[:10]]
    with open(summaries, encoding="utf-8") as lines:
        written = {record["id"]: record["summary"] for record in map(json.loads, lines)}
    print(f"## {title}")
    for record in wanted:
        print(f"\n<details><summary>{record['id']}: {record.get('title', '')}</summary>\n")
        print(f"Summary\n\n{paragraphs(written[record['id']])}\n\nReference\n\n{paragraphs(record['summary'])}\n\n</details>")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
