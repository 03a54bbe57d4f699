#!/bin/bash
# The first session on a GPU: bring-up, tests, parity, curves, speed. A part that fails or takes too long does not keep
# the next ones; each writes its figures before the next begins, and no part takes longer than nine minutes.
#
#   .ci/gpu.sh [FOLDER]            goes on where a session in FOLDER has stopped: parts that were ok are not repeated
#   MINUTES=9                      begins no part that could last longer than that, all together
#   DEVICE=cpu                     the same without a GPU
#   CAMVID=FOLDER                  with images: 300 iterations of tiny on CamVid
#   SEGNEXT_TORCH_PYTHON=PYTHON    with PyTorch: the benchmark against it
#   ITERATIONS=200 CROP=[512,512]  of the curves by precision, and of the benchmark
#   PARTS='losses|speed'           only the parts whose names fit
set -u
cd "$(dirname "$0")/.." || exit 1
out=$(realpath -m "${1:-outputs/gpu/$(date +%Y-%m-%d_%H-%M-%S)}")
device=${DEVICE:-cuda} python=${PYTHON:-python} iterations=${ITERATIONS:-200} crop=${CROP:-[512,512]}
precisions=${PRECISIONS:-fp32 tf32 bf16 fp16}
mkdir -p "$out/home" || exit 1
# An empty compile cache of its own: the first part is the bring-up that a new user has.
export HOME="$out/home" SEGNEXT_HOME="$out/home/segnext" WANDB_MODE=disabled
unset JITTOR_HOME
[ "$device" = cpu ] && export CUDA_VISIBLE_DEVICES=-1
touch "$out/summary.txt"

later=()
part() { # part NAME SECONDS COMMAND...
    local name=$1 limit=$2 start=$SECONDS result=ok code
    shift 2
    [[ $name =~ ${PARTS:-.} ]] || return 0
    grep -q "^$name  .*  ok$" "$out/summary.txt" && return 0
    [ -n "${MINUTES:-}" ] && [ $((SECONDS + limit)) -gt $((MINUTES * 60)) ] && { later+=("$name"); return 0; }
    echo "== $name"
    timeout --kill-after=20 "$limit" "$@" > "$out/$name.log" 2>&1 || { code=$?; result="failed with $code"; }
    [ "${code:-0}" = 124 ] && result="stopped after its $limit s"
    sed -i "/^$name  /d" "$out/summary.txt"
    printf '%-22s %6d s  %s\n' "$name" $((SECONDS - start)) "$result" | tee -a "$out/summary.txt"
    return "${code:-0}"
}

start="from segnext import backend; backend.start('$device', announce=print); print(backend.device_name())"
part machine 60 bash -c 'date; git rev-parse HEAD; nvidia-smi || true; g++ --version; nproc; "$0" --version' "$python"
part cold_start 540 "$python" -c "$start"
part warm_start 60 "$python" -c "$start"
part launch 120 "$python" .ci/first_steps.py "$device" launch
for precision in $precisions; do # each in a process of its own: what one has chosen is nothing to the others
    part "conv_$precision" 120 "$python" .ci/first_steps.py "$device" conv "$precision"
done
for precision in $precisions; do
    part "parity_$precision" 300 "$python" .ci/first_steps.py "$device" parity "$precision"
    part "step_$precision" 540 "$python" .ci/first_steps.py "$device" step "$precision"
done
part doctor 300 "$python" -m runners.doctor device="$device"

# These take the GPU by themselves and compare with NumPy and with the figures of the CPU.
part tests_kernels 540 "$python" -m pytest -q tests/kernels
part tests_parity 540 "$python" -m pytest -q tests/models tests/training/test_parity.py
part tests_precision 540 "$python" -m pytest -q tests/training/test_precision.py
part tests_gpu 540 "$python" -m pytest -q -m gpu tests

train=("$python" -m runners.train device="$device" tracking=none)
if [ -n "${CAMVID:-}" ]; then
    part camvid 540 "${train[@]}" experiment=camvid_cpu schedule.iterations=300 schedule.eval_interval=300 \
        dataset.root="$CAMVID" run_folder="$out/camvid"
fi
for precision in $precisions; do
    part "losses_$precision" 540 "${train[@]}" model=tiny dataset=shapes schedule=demo schedule.log_interval=1 \
        schedule.iterations="$iterations" schedule.eval_interval="$iterations" precision="$precision" \
        run_folder="$out/losses_$precision"
done

bench=("$python" -m runners.benchmark device="$device" dataset=ade "crop=$crop")
for precision in $precisions; do
    against=()
    [ -n "${SEGNEXT_TORCH_PYTHON:-}" ] && [ "$precision" = fp32 ] && against=(against=torch)
    part "speed_$precision" 540 "${bench[@]}" model=tiny precision="$precision" 'what=[train,inference]' \
        run_folder="$out/speed_$precision" ${BATCH:+batch=$BATCH} "${against[@]}"
done

part memory 540 "$python" .ci/first_steps.py "$device" memory bf16

"$python" - "$out" "$precisions" > "$out/figures.txt" <<'PYTHON'
"""Losses and speeds by precision, from what the parts have left."""
import json
import sys
from pathlib import Path

out, precisions = Path(sys.argv[1]), sys.argv[2].split()
losses, speeds = {}, {}
for name in precisions:
    events = out / f"losses_{name}/events.jsonl"
    if events.is_file():
        records = [json.loads(line) for line in events.read_text().splitlines()]
        losses[name] = [r["metrics"]["train/loss"] for r in records if "train/loss" in r.get("metrics", {})]
    figures = out / f"speed_{name}/benchmark.json"
    if figures.is_file():
        rows = json.loads(figures.read_text())["rows"]
        speeds[name] = {f"{row['what']} {row['runs_on']}": row["images_per_second"] for row in rows}
for name, curve in losses.items():
    tail = curve[-20:]
    reference = losses.get("fp32", curve)
    apart = max(abs(a - b) for a, b in zip(curve, reference))
    print(f"loss {name}: {len(curve)} steps, mean of the last {len(tail)} {sum(tail) / len(tail):.4f}, "
          f"largest distance from fp32 {apart:.4f}")
for name, figures in speeds.items():
    for what, speed in figures.items():
        print(f"speed {name}: {what} {speed:.4g} images/s")
PYTHON
cat "$out/summary.txt" "$out/figures.txt"
[ ${#later[@]} = 0 ] || { echo "still to come, by the same command with $out: ${later[*]}"; exit 3; }
! grep -q "failed with\|stopped after" "$out/summary.txt"
