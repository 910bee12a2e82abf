#!/usr/bin/env bash
# Makes the bundled model from nothing: tokenizer, openings, whole documents. Run it in a directory whose `data/` holds
# elife/ and sumpubmed/ (train, validation and test .jsonl.zst); everything is written under runs/default/ there.
# An interrupted run goes on where it stopped when the script is started again.
set -euo pipefail
configs="$(cd "$(dirname "$0")/../configs" && pwd)"
epitome="${EPITOME:-epitome}"

if [ ! -e runs/default/tokenizer/tokenizer.json ]; then
    "$epitome" tokenizer train --vocab-size 8192 --output runs/default/tokenizer \
        --input data/elife/train.jsonl.zst data/sumpubmed/train.jsonl.zst
fi
for stage in 1-openings 2-whole; do
    if [ ! -e "runs/default/${stage#*-}/model.safetensors" ]; then
        "$epitome" train --config "$configs/default-$stage.toml" --resume
    fi
done
