"""The naive implementation of a sweep, with which this project's speed is compared.

It is what a good engineer writes in an afternoon. PIL images go through torchvision's transforms in
a ``DataLoader``, in float32. The teacher runs live in each student's loop. Every training is a
default function trainable of Ray Tune: first one ``Tuner`` for the teachers, then one for the
students. The mathematics is the same as ``rkd_core``'s, from which images, networks and recipes are
taken. Nothing is slow on purpose: of two options, the faster one was chosen.

    python -m benchmarks.naive.sweep --dataset cifar10-lt --data-dir DIR --out DIR --epochs 2
"""
