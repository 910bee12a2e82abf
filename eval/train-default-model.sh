#!/usr/bin/env bash
# Makes the bundled model from nothing: a tokenizer, then the stages of configs/default-model/, each of which starts from the
# one before. The first three teach it to find and copy sentences in short passages, the fourth in openings of documents, the
# fifth in whole ones, the last to summarize (eval/choices.md says why in this order). Run it in a directory whose `data/`
# holds the data sets; everything is written under runs/default/ there. An interrupted run goes on where it stopped when the
# script is started again. With the name of a stage as its argument it stops after that stage.
set -euo pipefail
configs="$(cd "$(dirname "$0")/../configs/default-model" && pwd)"
epitome="${EPITOME:-epitome}"
last="${1:-}"
runs=runs/default

if [ ! -e $runs/tokenizer/tokenizer.json ]; then
    "$epitome" tokenizer train --vocab-size 8192 --output $runs/tokenizer \
        --input data/{elife,sumpubmed,qmsum,squality,beigebook,scisummnet}/train.jsonl.zst
fi
for stage in 1-passages 2-shuffled 3-longer 4-openings 5-whole 6-summaries; do
    if [ ! -e $runs/$stage/model.safetensors ]; then
        "$epitome" train --config "$configs/$stage.toml" --resume
    fi
    if [ "$stage" = "$last" ]; then exit; fi
done
if [ ! -e $runs/model/config.json ]; then
    "$epitome" convert --from $runs/6-summaries --output $runs/model --dtype bf16
fi
cp "$configs"/../../models/default/generation_config.json $runs/model/
