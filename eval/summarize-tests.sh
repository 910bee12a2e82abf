#!/usr/bin/env bash
# summarize-tests.sh MODEL DIRECTORY [OPTION...]: summaries of the whole test splits of eLife and SumPubMed, in DIRECTORY, as
# MODEL's settings say. Run it where `data/` holds the data sets.
set -euo pipefail
epitome="${EPITOME:-epitome}"
model="$1"
directory="$2"
shift 2
mkdir -p "$directory"
for set in elife sumpubmed; do
    "$epitome" decode --model "$model" --input data/$set/test.jsonl.zst --output "$directory/$set.jsonl" "$@"
done
