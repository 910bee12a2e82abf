#!/usr/bin/env bash
# What reading more of a document is worth (the paper's Figure 3): one small model, taught to find and copy words by the
# first three stages of train-default-model.sh (at most 600 tokens at a time), is then fine-tuned three times on the same
# records in the same order with the same settings, reading the first 1,024 tokens, the first 4,096, or whole documents.
# Each of the three summarizes the first 100 test records of both sets as it was trained, and the whole-document model does
# so once more from the first 1,024 tokens. Run it in a directory whose `data/` holds the data sets; everything is written
# under runs/ there, and what exists is not made again.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
epitome="${EPITOME:-epitome}"
runs=runs/by-length

"$here"/train-default-model.sh 3-paragraphs

# fine_tune NAME [SETTING...]
fine_tune() {
    local output=$runs/$1
    shift
    if [ ! -e "$output/model.safetensors" ]; then
        "$epitome" train --config "$here"/../configs/by-length.toml --output "$output" --resume "$@"
    fi
}

# summarize NAME LENGTH [OPTION...]: summaries by a model, reading so much. All are made to have 320 tokens, for ROUGE depends
# on length.
summarize() {
    local model=$runs/$1 length=$2
    shift 2
    for set in elife sumpubmed; do
        "$epitome" decode --resume --model "$model" --input $runs/$set-100.jsonl --output "$model/$set-$length.jsonl" \
            --num-beams 4 --no-repeat-ngram-size 3 --min-new-tokens 320 --max-new-tokens 320 "$@"
    done
}

# lose NAME [OPTION...]: the log-likelihood of the validation summaries
lose() {
    local model=$runs/$1
    shift
    for set in elife sumpubmed; do
        if [ ! -e "$model/$set-losses.jsonl" ]; then
            "$epitome" score --model "$model" --input data/$set/validation.jsonl.zst --output "$model/$set-losses.part" "$@"
            mv "$model/$set-losses.part" "$model/$set-losses.jsonl"
        fi
    done
}

fine_tune 1024 --set data.max_source_length=1024
fine_tune 4096 --set data.max_source_length=4096
fine_tune whole
for set in elife sumpubmed; do
    # `head` leaves zstd with a closed pipe, which is no failure.
    (set +o pipefail; zstd -dc --long=27 data/$set/test.jsonl.zst | head -n 100 > $runs/$set-100.jsonl)
    [ "$(wc -l < $runs/$set-100.jsonl)" = 100 ]
done
summarize 1024 1024 --max-document-tokens 1024
summarize 4096 4096 --max-document-tokens 4096
summarize whole whole
summarize whole 1024 --max-document-tokens 1024
lose 1024 --max-document-tokens 1024
lose 4096 --max-document-tokens 4096
lose whole
for set in elife sumpubmed; do
    "$epitome" evaluate --references $runs/$set-100.jsonl --sentence-split period --output $runs/report-$set \
        --predictions 1024=$runs/1024/$set-1024.jsonl --predictions 4096=$runs/4096/$set-4096.jsonl \
        --predictions whole=$runs/whole/$set-whole.jsonl --predictions whole-from-1024=$runs/whole/$set-1024.jsonl
    echo "$set, validation loss:"
    python3 "$here"/loss_by_length.py \
        1024=$runs/1024/$set-losses.jsonl 4096=$runs/4096/$set-losses.jsonl whole=$runs/whole/$set-losses.jsonl
done
