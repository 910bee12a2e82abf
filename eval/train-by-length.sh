#!/usr/bin/env bash
# What reading more of a document is worth (the paper's Figure 3): the bundled model beside one made by the same stages and
# settings, except that in the last two stages, and when it writes, it reads only the first 1,024 tokens of a document. Both
# summarize the test splits of eLife and SumPubMed, and score the summaries of 100 validation records of each. Run it in a
# directory whose `data/` holds the data sets; everything is written under runs/ there. Models that exist are not made again.
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

# compare SET FILE REPORT
compare() {
    "$epitome" evaluate --references data/$1/test.jsonl.zst --sentence-split period --output $runs/$3 \
        --predictions whole=$runs/whole-test/$2.jsonl --predictions $length=$runs/$length-test/$2.jsonl
}

# digest MODEL DIRECTORY [OPTION...]
digest() {
    local model="$1" directory="$2"
    shift 2
    "$epitome" decode --model "$model" --input data/elife/test.jsonl.zst --output "$directory"/elife-digest.jsonl \
        --extractive=false --prompt "digest, 350 words" --no-repeat-ngram-size 3 --min-new-tokens 440 "$@"
}

digest runs/default/model $runs/whole-test
digest $runs/model-$length $runs/$length-test --max-document-tokens $length
compare elife elife report-elife
compare elife elife-digest report-elife-digest
compare sumpubmed sumpubmed report-sumpubmed

# losses SET PROMPT
losses() {
    local records=$runs/$1-validation.jsonl
    zstd -dc --long=27 data/$1/validation.jsonl.zst | sed -n 1,100p >$records
    "$epitome" score --model $runs/model-$length --prompt "$2" --input $records --output $runs/$1-$length.scores \
        --max-document-tokens $length
    "$epitome" score --model runs/default/model --prompt "$2" --input $records --output $runs/$1-whole.scores
    python3 "$here"/loss_by_length.py $length=$runs/$1-$length.scores whole=$runs/$1-whole.scores
}

losses elife "digest, 350 words"
losses sumpubmed "abstract, 250 words"
