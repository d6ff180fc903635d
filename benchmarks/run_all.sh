#!/usr/bin/env bash
# The long benchmarks, one part after another, the most important first. Each part resumes, so this script can
# be stopped at any time and started again. At the end it writes the docs from all rows.
#
#     benchmarks/run_all.sh SHARED WORK [PART ...]     # all parts, or these
#     benchmarks/run_all.sh --list                     # the parts, and how long they took
#
# Every part runs on one thread. With two cores, run two scripts with different parts at once; what is timed (parts
# whose name ends in -speed) needs a machine where nothing else runs. The time of each run is added to
# results/run_all.jsonl, also of one that was interrupted: --list shows the sum.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-../.venv/bin/python}
log=results/run_all.jsonl

# name | command, in which SHARED and WORK stand for the folders
parts=(
    "which-student | exams.py indonlu --shared SHARED --work WORK/indonlu --steps 600"
    "grid | exams.py grid_tasks --shared SHARED --work WORK/grid --steps 1000 --rate 5e-5"
    "methods-trec | exams.py methods --shared SHARED --work WORK/methods --only trec --students bert-l3 --seeds 0 1 2"
    "methods-sst2 | exams.py methods --shared SHARED --work WORK/methods --only sst2-sentences --students bert-l3 --seeds 0 1 2"
    "methods-mrpc | exams.py methods --shared SHARED --work WORK/methods --only mrpc --students bert-l3 --seeds 0"
    "methods-stsb | exams.py methods --shared SHARED --work WORK/methods --only stsb --students bert-l3 --seeds 0"
    "ensembles | exams.py ensembles --shared SHARED --work WORK/ensembles --steps 800"
    "generation | generation.py --shared SHARED --work WORK/generation"
    "compression | compression.py --shared SHARED --work WORK/compression --only sst2-sentences trec --prepare"
    "compression-taggers | compression.py --shared SHARED --work WORK/compression --only wnut17 --prepare"
    "beyond-size | beyond_size.py --shared SHARED --work WORK/beyond-size --only trec"
    "sentence-vectors | sentence_vectors.py --shared SHARED --work WORK/sentence-vectors"
    "transfer-set | transfer_set.py --shared SHARED --work WORK/transfer-set"
    "teachers | teachers.py --shared SHARED --work WORK/teachers"
    "domains | domains.py --shared SHARED --work WORK/domains"
    "generation-speed | generation.py --shared SHARED --work WORK/generation --speed"
    "compression-speed | compression.py --shared SHARED --work WORK/compression --only sst2-sentences trec wnut17 --measure"
)

seconds_of() {
    [[ -f $log ]] || return 0
    "$python" - "$1" "$log" <<'PYTHON'
import json
import sys

part, log = sys.argv[1:]
rows = [row for row in map(json.loads, open(log)) if row["part"] == part]
if rows:
    state = {0: "", 130: ", not finished"}.get(rows[-1]["status"], ", then it failed")
    print(f"{sum(row['seconds'] for row in rows) / 3600:.1f} hours{state}")
PYTHON
}

if [[ ${1:-} == --list ]]; then
    for part in "${parts[@]}"; do
        name=${part%% |*}
        took=$(seconds_of "$name")
        printf '%-20s %-24s %s\n' "$name" "${took:-not run}" "${part#* | }"
    done
    exit
fi
[[ $# -ge 2 ]] || { sed -n '2,10s/^# \{0,1\}//p' "$(basename "$0")" >&2; exit 2; }

shared=$(realpath "$1") work=$(realpath -m "$2")
shift 2
mkdir -p "$work"
export OMP_NUM_THREADS=1
for wanted in "$@"; do
    printf '%s\n' "${parts[@]}" | grep -q "^$wanted |" || { echo "No part $wanted: see --list." >&2; exit 2; }
done
failed=()
record() {
    printf '{"part": "%s", "seconds": %d, "status": %d, "date": "%s"}\n' \
        "$name" $((SECONDS - started)) "$1" "$(date +%F)" >> "$log"
}
trap 'record 130; exit 130' INT TERM
for part in "${parts[@]}"; do
    name=${part%% |*} command=${part#* | }
    [[ $# -eq 0 || " $* " == *" $name "* ]] || continue
    command=${command//SHARED/$shared}
    echo "== $name: $command" >&2
    started=$SECONDS status=0
    # shellcheck disable=SC2086  # the command is words
    "$python" ${command//WORK/$work} || status=$?
    record "$status"
    [[ $status -eq 0 ]] || failed+=("$name")
done
"$python" write_docs.py
[[ ${#failed[@]} -eq 0 ]] || { echo "Failed: ${failed[*]}. Start them again to go on." >&2; exit 1; }
