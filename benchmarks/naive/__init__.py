"""The stack a good engineer writes in an afternoon: what this project's speed is measured against.

PIL images through torchvision's transforms in a ``DataLoader``, float32, the teacher run live in
each student's loop, and a default function trainable of Ray Tune for every training: first one
``Tuner`` for the teachers, then one for the students. The mathematics is the same as
``rkd_core``'s, the images, networks and recipes are taken from it, and nothing is left slow on
purpose: where there was a choice the faster one is taken.

    python -m benchmarks.naive.sweep --dataset cifar10-lt --data-dir DIR --out DIR --epochs 2
"""
