#!/bin/bash
# Measure how fast the GPU path is. Takes about seven minutes; run it right after run1.sh.
cd "$(dirname "$0")/../.." || exit
export PYTHONPATH=/tmp/site:$PYTHONPATH PYTHONUNBUFFERED=1 OUT=${OUT:-/tmp/rkd-gpu-out}
{
  nvidia-smi --query-gpu=name,clocks.sm,temperature.gpu,power.draw --format=csv,noheader
  LIMIT=${LIMIT:-400} python3 benchmarks/gpu/measure.py
  nvidia-smi --query-gpu=name,clocks.sm,temperature.gpu,power.draw --format=csv,noheader
} 2>&1 | tee "$OUT/measure.log"
