#!/usr/bin/env bash
# Train or test MATH, or another method, over datasets and code lengths, with the release's numbers of queries and training rows.
#
#   bash run_MATH.sh train                          all datasets, 16 32 64 128 bits
#   bash run_MATH.sh train flickr25k 16 64          one dataset, two lengths
#   bash run_MATH.sh test coco                      the newest run of each length
#   bash run_MATH.sh train --method DCMH coco       another method; its runs go to folders of their own
#
# MATH_ARGS holds further options, MATH_LAUNCH the launcher:
#   MATH_ARGS="--precision bf16" MATH_LAUNCH="accelerate launch" bash run_MATH.sh train
set -euo pipefail
cd "$(dirname "$0")"

declare -A query=([flickr25k]=2000 [nuswide]=2100 [coco]=5000 [iaprtc12]=2000)
declare -A train=([flickr25k]=10000 [nuswide]=10500 [coco]=10000 [iaprtc12]=10000)
declare -A name=([flickr25k]=FLICKR [nuswide]=NUSWIDE [coco]=COCO [iaprtc12]=IAPRTC12)
usage="usage: bash run_MATH.sh train|test [--method NAME] [flickr25k|nuswide|coco|iaprtc12 ...] [bits ...]"

mode=${1:-}
[[ $mode == train || $mode == test ]] || { echo "$usage" >&2; exit 2; }
shift
datasets=() bits=() method=MATH
while [[ $# -gt 0 ]]; do
    word=$1
    shift
    if [[ $word == --method ]]; then method=${1:?$usage}; shift
    elif [[ $word =~ ^[0-9]+$ ]]; then bits+=("$word")
    elif [[ -n ${query[$word]:-} ]]; then datasets+=("$word")
    else echo "error: '$word' is neither a dataset nor a code length; $usage" >&2; exit 2
    fi
done
[[ ${#datasets[@]} -gt 0 ]] || datasets=(flickr25k nuswide coco iaprtc12)
[[ ${#bits[@]} -gt 0 ]] || bits=(16 32 64 128)

read -ra launch <<< "${MATH_LAUNCH:-python}"
read -ra extra <<< "${MATH_ARGS:-}"
for dataset in "${datasets[@]}"; do
    results=RESULT_${method##*:}_${name[$dataset]}
    for k in "${bits[@]}"; do
        options=(--method "$method" --dataset "$dataset" --k-bits "$k"
                 --query-num "${query[$dataset]}" --train-num "${train[$dataset]}" "${extra[@]}")
        if [[ $mode == train ]]; then
            "${launch[@]}" main.py --is-train "${options[@]}"
        else
            run=$(ls -d "$results/${dataset}_$k"/*/model.safetensors 2>/dev/null | grep -v _test/ | tail -n 1 || true)
            [[ -n $run ]] || { echo "error: there is no run in $results/${dataset}_$k; train one first" >&2; exit 2; }
            "${launch[@]}" main.py "${options[@]}" --pretrained "$(dirname "$run")"
        fi
    done
done
