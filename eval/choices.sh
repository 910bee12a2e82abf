#!/usr/bin/env bash
# The short runs behind the sizes, the vocabulary and the windows of the bundled model (the tables of choices.md): the first
# 300 updates of its recipe with other sizes and vocabularies, the first 100 of the fourth stage with other windows. Run it in a
# directory whose `data/` holds the data sets; everything is written under runs/ there, and what exists is not made again.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
configs="$here"/../configs/default-model
epitome="${EPITOME:-epitome}"
runs=runs/choices

"$here"/train-default-model.sh 4-openings

# train STAGE NAME KEY=VALUE...
train() {
    local stage="$1" name="$2"
    shift 2
    if [ ! -e "$runs/$name/model.safetensors" ]; then
        "$epitome" train --config "$configs/$stage.toml" --output "$runs/$name" --resume --set "$@"
    fi
}

# sized NAME KEY=VALUE...
sized() {
    train 1-passages "$@" run.max_steps=300
}

sized width-128 model.d_model=128 model.{encoder,decoder}_ffn_dim=512 model.{encoder,decoder}_attention_heads=2
sized width-256 model.d_model=256 model.{encoder,decoder}_ffn_dim=1024 model.{encoder,decoder}_attention_heads=4
sized three-encoder-layers model.encoder_layers=3 model.attention_window='[64,128,256]'
for size in 4096 16384; do
    if [ ! -e $runs/tokenizer-$size/tokenizer.json ]; then
        "$epitome" tokenizer train --vocab-size $size --output $runs/tokenizer-$size \
            --input data/{elife,sumpubmed,qmsum,squality,beigebook,scisummnet}/train.jsonl.zst
    fi
    sized vocabulary-$size model.tokenizer=$runs/tokenizer-$size model.vocab_size=$size
done
for windows in 256,64 160,160 64,512; do
    train 4-openings windows-$windows model.attention_window="[$windows]" run.max_steps=100
done
