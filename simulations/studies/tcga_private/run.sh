#!/usr/bin/env bash
# What differential privacy costs on a TCGA cohort.
# usage: run.sh COHORT OUT scratch|public [option of tradeoff ...]
# "public": the study starts from a model that the four other cohorts, taken as public, have trained.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tcga=$here/../tcga
data=${MMFED_DATA:-"$here/../../../../shared/data"}/tcga_multimodal
cohort=$1 out=$2 start=$3
shift 3
case $start in scratch | public) ;; *)
    echo "run.sh: $start is neither scratch nor public" >&2
    exit 2
    ;;
esac
others=()
for name in BLCA BRCA KIRC LUAD SKCM; do
    [ "$name" = "$cohort" ] || others+=(--cohort "$tcga/$name" --data "$data/$name")
done
"$tcga/pack.sh"
if [ ! -e "$here/$cohort/reference-$cohort.mmfk" ]; then
    mmfed-simulate knowledge reference "$tcga/hallmark.mmfk" --study "$tcga/$cohort/study.toml" "${others[@]}" \
        --name "other TCGA cohorts" --out "$here/$cohort/reference-$cohort.mmfk"
fi
study=$here/$cohort/study.toml
if [ "$start" = public ]; then
    place=$out/study
    mkdir -p "$place"
    if [ ! -e "$place/pretrained.json" ]; then
        again=()
        if [ -e "$place/pretrained.run" ]; then again=(--resume); fi
        mmfed-simulate pretrain "$here/../tcga_transfer/pan_cancer.toml" "${others[@]}" --out "$place/pretrained" \
            "${again[@]}" --json >"$place/pretrained.part"
        mv "$place/pretrained.part" "$place/pretrained.json"
    fi
    hash=$(sed -n 's/^ *"sha256": "\([0-9a-f]*\)".*/\1/p' "$place/pretrained.json" | tail -1)
    cp "$here/$cohort/reference-$cohort.mmfk" "$place"
    { cat "$study" && printf '\n[model]\nstart_from = { file = "pretrained", sha256 = "%s" }\n' "$hash"; } >"$place/study.toml"
    study=$place/study.toml
fi
exec mmfed-simulate tradeoff "$study" --cohort "$tcga/$cohort" --data "$data/$cohort" --out "$out/$start" "$@"
