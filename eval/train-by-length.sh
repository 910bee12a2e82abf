#!/usr/bin/env bash
# What reading more of a document is worth (the paper's Figure 3): the bundled model beside one made by the same stages and
# settings, except that in the last two stages, and when it writes, it reads only the first 1,024 tokens of a document. Both
# summarize the test splits of eLife and SumPubMed. Run it in a directory whose `data/` holds the data sets; everything is
# written under runs/ there, and what exists is not made again.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
configs="$here"/../configs/default-model
epitome="${EPITOME:-epitome}"
runs=runs/by-length
length=1024

"$here"/train-default-model.sh

# train STAGE NAME START
train() {
    if [ ! -e "$runs/$2/model.safetensors" ]; then
        "$epitome" train --config "$configs/$1.toml" --output "$runs/$2" --resume \
            --set model.path="$3" data.max_source_length=$length
    fi
}

train 5-whole $length-openings runs/default/4-openings
train 6-summaries $length $runs/$length-openings
if [ ! -e $runs/model-$length/config.json ]; then
    "$epitome" convert --from $runs/$length --output $runs/model-$length --dtype bf16
fi
cp runs/default/model/generation_config.json $runs/model-$length/
"$here"/summarize-tests.sh runs/default/model $runs/whole-test
"$here"/summarize-tests.sh $runs/model-$length $runs/$length-test --max-document-tokens $length
for set in elife sumpubmed; do
    "$epitome" evaluate --references data/$set/test.jsonl.zst --sentence-split period --output $runs/report-$set \
        --predictions whole=$runs/whole-test/$set.jsonl --predictions $length=$runs/$length-test/$set.jsonl
done
