#!/usr/bin/env bash
# Makes the bundled model from nothing: a tokenizer, then five stages that each start from the one before. The first three
# teach it to find and copy words by restoring damaged passages, the fourth to do so in longer documents, the last to
# summarize whole documents. Run it in a directory whose `data/` holds the data sets; everything is written under
# runs/default/ there. An interrupted run goes on where it stopped when the script is started again. With the name of a
# stage as its argument it stops after that stage.
set -euo pipefail
configs="$(cd "$(dirname "$0")/../configs" && pwd)"
epitome="${EPITOME:-epitome}"
last="${1:-}"
runs=runs/default

if [ ! -e $runs/tokenizer/tokenizer.json ]; then
    "$epitome" tokenizer train --vocab-size 8192 --output $runs/tokenizer \
        --input data/{elife,sumpubmed,qmsum,squality,beigebook,scisummnet}/train.jsonl.zst
fi

# stage NAME CONFIG [SETTING...]
stage() {
    local output=$runs/$1 config=$configs/$2
    shift 2
    if [ ! -e "$output/model.safetensors" ]; then
        "$epitome" train --config "$config" --output "$output" --resume --set run.logging_steps=10 "$@"
    fi
    if [ "$output" = "$runs/$last" ]; then exit; fi
}

stage 1-words default-model-fresh.toml
stage 2-sentences default-model.toml model.path=$runs/1-words run.max_steps=200 run.seed=1 \
    run.batch_size=8 optim.warmup_steps=100 data.max_train_records=4000 \
    'data.train=["data/elife/train.jsonl.zst", "data/sumpubmed/train.jsonl.zst"]' \
    'data.objectives={ denoise = 1.0 }' data.denoise.length=96 data.denoise.mask_ratio=0.1
stage 3-paragraphs default-model.toml model.path=$runs/2-sentences run.max_steps=200 run.seed=3 \
    data.max_train_records=6000 data.max_source_length=600 \
    'data.objectives={ denoise = 1.0, gap_sentences = 1.0 }' data.gap_sentences.ratio=0.3
stage 4-openings default-model.toml model.path=$runs/3-paragraphs run.max_steps=250 run.seed=4 \
    data.max_train_records=9000 data.max_source_length=2048 \
    'data.objectives={ summarize = 1.0, gap_sentences = 1.0 }'
stage 5-whole default-model.toml model.path=$runs/4-openings run.max_steps=420 run.seed=5 \
    run.batch_size=1 run.gradient_accumulation_steps=8 optim.lr_scheduler_type=linear data.max_train_records=7000 \
    'data.objectives={ summarize = 2.0, gap_sentences = 1.0 }'
if [ ! -e $runs/model/config.json ]; then
    "$epitome" convert --from $runs/5-whole --output $runs/model --dtype bf16
fi
