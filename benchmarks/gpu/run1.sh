#!/bin/bash
# Check that the GPU path is correct. Takes about three minutes; allow five.
# Run it in the root of a checkout on the GPU machine.
cd "$(dirname "$0")/../.." || exit
if [ -d .gpu/whl ]; then
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .gpu/whl/*.whl || exit
fi
export PYTHONPATH=/tmp/site:$PYTHONPATH PYTHONUNBUFFERED=1 OUT=${OUT:-/tmp/rkd-gpu-out}
mkdir -p "$OUT"
{
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm --format=csv,noheader
  python3 -c "import os;print(os.cpu_count(), open('/proc/cpuinfo').read().split('model name')[1].split('\n')[0])"
  # The sweep itself on the GPU, end to end, without Ray: NVML, packing, recording, records.
  timeout 90 python3 sweeps/pareto.py --dataset digits-lt --epochs 3 --alphas 0.5 1 --temperatures 1 \
    --serial --quiet --out /tmp/digits > "$OUT/sweep.txt" 2>&1 &
  sweep=$!
  LIMIT=${LIMIT:-170} python3 benchmarks/gpu/check.py
  wait $sweep; echo "# sweep exit code $?"; tail -5 "$OUT/sweep.txt"; grep -h "not recorded\|side by side" /tmp/digits/sweep.log
  python3 - <<'P'
import sys; sys.path.insert(0, ".")
from rkd_core import records
rows = records.read(__import__("pathlib").Path("/tmp/digits/records")).to_pylist()
print("# sweep", len(rows), {r["device"] for r in rows}, sorted({r["trained_together"] for r in rows}),
      {r["status"] for r in rows}, max(r["val_average_accuracy"] or 0 for r in rows))
P
  timeout 60 python3 -m pytest -q -p no:cacheprovider -W ignore::DeprecationWarning --timeout 50 \
    tests/rkd_core/training/test_arrays.py -k "recorded_steps or made_to_be_recorded"
} 2>&1 | tee "$OUT/check.log"
