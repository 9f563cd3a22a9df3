#!/usr/bin/env bash
# Extraction, a sweep, the final training and its evaluation as four jobs, one after the other:
#
#   cluster/slurm/sweep.sh /shared/irmas.parquet /shared/sweeps/first irmas
#
# SBATCH_OPTIONS apply to all four: SBATCH_OPTIONS="--nodes=4 --gpus-per-node=1 --time=8:00:00".
set -euo pipefail

if [[ $# -ne 3 ]]; then
    echo "usage: $0 MANIFEST DIRECTORY RECIPE" >&2
    exit 2
fi
manifest=$1 out=$2 recipe=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
read -r -a options <<< "${SBATCH_OPTIONS:-}"
tracked=(--set "tracking.directory=$out")

# Submits an irmas command to start after the success of the job in $1, if any; prints its id.
after() {
    local dependency=() previous=$1
    shift
    [[ -z $previous ]] || dependency=(--dependency="afterok:$previous" --kill-on-invalid-dep=yes)
    local answer
    answer=$(sbatch --parsable "${options[@]}" "${dependency[@]}" "$here/irmas.sbatch" "$@") || {
        [[ -z $previous ]] || echo "sweep.sh: jobs up to $previous are queued: see squeue --me" >&2
        return 1
    }
    echo "${answer%%;*}"  # Without the cluster that --clusters adds.
}

features=$(after "" extract "$manifest" "$out/features" --config "$recipe")
sweep=$(after "$features" sweep "$out/features" "$out/sweep" --config "$recipe" \
    --trials "${TRIALS:-40}" "${tracked[@]}")
model=$(after "$sweep" train "$out/features" "$out/model" --config "$out/sweep/best.yaml" \
    --workers "${WORKERS:-1}" "${tracked[@]}")
scores=$(after "$model" evaluate "$out/model" --features "$out/features")
echo "jobs $features, $sweep, $model and $scores; the last writes $out/model/scores.parquet"
