#!/usr/bin/env bash
# What differential privacy costs on a TCGA cohort.  usage: run.sh COHORT OUT [option of tradeoff ...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tcga=$here/../tcga
data=${MMFED_DATA:-"$here/../../../../shared/data"}
cohort=$1 out=$2
shift 2
if [ ! -e "$here/$cohort/reference-$cohort.mmfk" ]; then
    "$tcga/pack.sh"
    others=()
    for name in BLCA BRCA KIRC LUAD SKCM; do
        [ "$name" = "$cohort" ] || others+=(--cohort "$tcga/$name" --data "$data/tcga_multimodal/$name")
    done
    mmfed-simulate knowledge reference "$tcga/hallmark.mmfk" --study "$tcga/$cohort/study.toml" "${others[@]}" \
        --name "other TCGA cohorts" --out "$here/$cohort/reference-$cohort.mmfk"
fi
exec mmfed-simulate tradeoff "$here/$cohort/study.toml" --cohort "$tcga/$cohort" \
    --data "$data/tcga_multimodal/$cohort" --out "$out" "$@"
