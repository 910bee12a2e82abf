#!/usr/bin/env bash
# The numbers of the bundled model: makes it if it is not there (train-default-model.sh; EPITOME_MODEL names another, such as
# models/default of this repository), summarizes the whole test splits of eLife and SumPubMed and 500 documents of every kind,
# and writes the reports under runs/default/. Run it in a directory whose `data/` holds the data sets.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
epitome="${EPITOME:-epitome}"
runs=runs/default
model="${EPITOME_MODEL:-}"
if [ -z "$model" ]; then
    "$here"/train-default-model.sh
    model=$runs/model
fi

"$here"/summarize-tests.sh "$model" $runs/test
"$epitome" decode --model "$model" --input data/elife/test.jsonl.zst --output $runs/test/elife-digest.jsonl \
    --extractive=false --prompt "digest, 350 words" --no-repeat-ngram-size 3 --min-new-tokens 440
"$epitome" evaluate --predictions extract=$runs/test/elife.jsonl --predictions digest=$runs/test/elife-digest.jsonl \
    --references data/elife/test.jsonl.zst --sentence-split period --output $runs/report-elife
"$epitome" evaluate --predictions extract=$runs/test/sumpubmed.jsonl --references data/sumpubmed/test.jsonl.zst \
    --sentence-split period --output $runs/report-sumpubmed
python3 "$here"/collapse.py documents data > $runs/test/documents.jsonl
"$epitome" decode --model "$model" --attribute --input $runs/test/documents.jsonl --output $runs/test/summaries.jsonl
python3 "$here"/collapse.py check $runs/test/documents.jsonl $runs/test/summaries.jsonl
