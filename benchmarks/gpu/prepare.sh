#!/bin/bash
# Download the pure-Python wheels that a GPU machine without a network needs into .gpu/whl.
# Run it in the root of a checkout, then copy the checkout, including .gpu/, to that machine.
set -e
mkdir -p .gpu/whl
python3 -m pip download -q --no-deps --only-binary=:all: \
  --python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
  --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .gpu/whl pydantic==2.14.4 pydantic-core==2.50.5 \
  annotated-types==0.8.0 typing-inspection==0.4.5 typing-extensions==4.16.0
du -sh .gpu
