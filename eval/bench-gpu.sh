#!/bin/sh
# The tables of eval/speed.md "On a GPU": epitome beside the reference implementation, one JSON line each.
#
#     cargo build --release --features cuda
#     eval/bench-gpu.sh FOLDER [base|large ...]       # random models are made in FOLDER; needs torch and transformers
#
# EPITOME names the program, if it is another; REPEAT how often each is run (3), REFERENCE_REPEAT the reference (2).
set -eu
folder=$1
shift
epitome=${EPITOME:-target/release/epitome}
ours="--device cuda --precision bf16 --repeat ${REPEAT:-3}"
theirs="--repeat ${REFERENCE_REPEAT:-2}"
reference() {
    echo "reference: $*"
    python3 eval/bench_reference.py "$@" 2>"$folder/reference.log" || tail -n 1 "$folder/reference.log"
}
measure() {
    echo "epitome: $*"
    "$epitome" bench "$@" $ours || true
}
mkdir -p "$folder"
reference peaks
[ $# -gt 0 ] || set -- base large
for size in "$@"; do
    model=$folder/$size
    [ -e "$model/config.json" ] || reference make --model "$model" --size "$size"
    for batch in 1 8; do
        measure encode --model "$model" --tokens 16384 --batch-size $batch
        reference encode --model "$model" --batch-size $batch $theirs
        measure generate --model "$model" --tokens 16384 --batch-size $batch --beams 4 --new-tokens 256
        # The difference of 240 tokens: what a step of decoding takes.
        measure generate --model "$model" --tokens 16384 --batch-size $batch --beams 4 --new-tokens 16
        reference generate --model "$model" --batch-size $batch --repeat 1
    done
    measure train --model "$model" --tokens 16384 --target-tokens 512
    reference train --model "$model" $theirs
    reference encode --model "$model" --compile $theirs
    measure encode --model "$model" --tokens 262144
    measure train --model "$model" --tokens 262144 --target-tokens 512
    [ "$size" != large ] || measure train --model "$model" --tokens 1000000 --target-tokens 512
done
