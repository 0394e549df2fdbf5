#!/usr/bin/env bash
# Compares the federation with its alternatives on one TCGA cohort.  usage: run.sh COHORT OUT [option of compare ...]
# MMFED_COMMAND=missing runs that command instead, on the same study, cohort and tables.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=${MMFED_DATA:-"$here/../../../../shared/data"}
cohort=$1 out=$2
shift 2
"$here/pack.sh"
exec mmfed-simulate "${MMFED_COMMAND:-compare}" "$here/$cohort/study.toml" --cohort "$here/$cohort" \
    --data "$data/tcga_multimodal/$cohort" --out "$out" "$@"
