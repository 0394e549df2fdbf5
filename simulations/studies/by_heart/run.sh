#!/usr/bin/env bash
# Attacks on a model that learned its patients by heart.
# usage: run.sh SITES OUT membership|reconstruct|attribute [option of `mmfed-simulate attack` ...]
# A hundred synthetic patients a site, on average; cohort and model are made once in OUT.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sites=$1 out=$2 attack=$3
shift 3
if [ ! -e "$out/run/model" ]; then
    rm -rf "$out"
    mmfed-simulate cohort --out "$out/cohort" --sites "$sites" --patients $((100 * sites)) --genes 200 --pathways 12 --seed 5
    sed -f "$here/references.sed" "$out/cohort/study.toml" | cat - "$here/learning.toml" >"$out/cohort/by_heart.toml"
    mmfed-simulate run "$out/cohort/by_heart.toml" --cohort "$out/cohort" --out "$out/run"
fi
exec mmfed-simulate attack "$attack" --bundle "$out/run/model" --cohort "$out/cohort" --out "$out/attacked" "$@"
