#!/usr/bin/env bash
# Trains on four TCGA cohorts and fine-tunes on the fifth, against training from scratch, with parts of its patients.
# usage: run.sh COHORT OUT [option of transfer ...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=${MMFED_DATA:-"$here/../../../../shared/data"}/tcga_multimodal
studies=$here/../tcga
fifth=$1 out=$2
shift 2
"$studies/pack.sh"
others=()
for name in BLCA BRCA KIRC LUAD SKCM; do
    if [ "$name" != "$fifth" ]; then
        others+=(--cohort "$studies/$name" --data "$data/$name")
    fi
done
if [ ! -e "$out/pretrained/bundle.json" ]; then
    mkdir -p "$out"
    again=()
    if [ -e "$out/pretrained.run" ]; then again=(--resume); fi
    mmfed-simulate pretrain "$here/pan_cancer.toml" "${others[@]}" --out "$out/pretrained" "${again[@]}"
fi
exec mmfed-simulate transfer "$studies/$fifth/study.toml" --bundle "$out/pretrained" --cohort "$studies/$fifth" \
    --data "$data/$fifth" --out "$out" --share 0.2 --share 1 --frozen additive "$@"
