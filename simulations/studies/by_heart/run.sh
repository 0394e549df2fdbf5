#!/usr/bin/env bash
# Attacks on a model that learned its patients by heart.
# usage: run.sh SITES OUT membership|reconstruct|attribute [option of `mmfed-simulate attack` ...]
# A hundred synthetic patients a site, on average. Everything of a number of sites lies in
# OUT/SITES-sites; cohort and model are made there once.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sites=$1 out=$2/$1-sites attack=$3
shift 3
if [ ! -e "$out/run/model" ]; then
    rm -rf "$out/cohort" "$out/run"
    mmfed-simulate cohort --out "$out/cohort" --sites "$sites" --patients $((100 * sites)) --genes 200 --pathways 12 --seed 5
    sed -f "$here/references.sed" "$out/cohort/study.toml" | cat - "$here/learning.toml" >"$out/cohort/by_heart.toml"
    wanted=$(grep -c reference_mean "$here/references.sed")
    found=$(grep -c '^reference_mean' "$out/cohort/by_heart.toml" || true)
    if [ "$found" -ne "$wanted" ]; then
        echo "run.sh: $found of $wanted headings of references.sed are in $out/cohort/study.toml" >&2
        exit 1
    fi
    mmfed-simulate run "$out/cohort/by_heart.toml" --cohort "$out/cohort" --out "$out/run"
fi
exec mmfed-simulate attack "$attack" --bundle "$out/run/model" --cohort "$out/cohort" --out "$out/attacked" "$@"
