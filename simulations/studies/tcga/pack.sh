#!/usr/bin/env bash
# Builds the knowledge pack of the TCGA studies beside them, where it is not there yet.  usage: pack.sh
# The same pack as `Places.build_pack` in simulations/mmfed_simulations/tables/cohorts.py: a change belongs in both.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=${MMFED_DATA:-"$here/../../../../shared/data"}
if [ -e "$here/hallmark.mmfk" ]; then exit; fi
genes=()
for name in BLCA BRCA KIRC LUAD SKCM; do
    genes+=(--genes-from "$data/tcga_multimodal/$name/expression.parquet")
done
exec mmfed-simulate knowledge build --tables "$data/knowledge" --pathways hallmark --genes-in-pathways \
    --gene-edges both --proteins none "${genes[@]}" --out "$here/hallmark.mmfk"
