"""The naive sweep on Ray Tune: a ``Tuner`` for the teachers, then one for the students.

    python -m benchmarks.naive.sweep --dataset NAME --out DIR [--data-dir DIR] ...

Options have the names and meanings of those of ``sweeps/pareto.py``. Weights, and the results as
``results.json``, go to the folder ``--out``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from benchmarks.naive.train import Outcome, Setup, network, train
from rkd_core.datasets import Dataset, default_imbalance, load
from rkd_core.specs import DataOptions, recipes

__all__ = ["main", "train_student", "train_teacher"]


def train_teacher(config: dict[str, Any], data: Dataset, setup: Setup, out: str) -> None:
    """Train a teacher, as a function trainable of Tune; ``config`` has the alpha."""
    started = time.perf_counter()
    outcome = train(data, setup, config["alpha"])
    torch.save(outcome.model.state_dict(), _teacher_file(out, config["alpha"]))
    tune.report(_figures("teacher", outcome, started))


def train_student(config: dict[str, Any], data: Dataset, setup: Setup, out: str) -> None:
    """Train a student; ``config`` also has the teacher's alpha and the temperature."""
    started = time.perf_counter()
    teacher = network(setup.teacher_architecture, data, setup.seed)
    teacher.load_state_dict(torch.load(_teacher_file(out, config["teacher"])))
    outcome = train(data, setup, config["alpha"], teacher, config["temperature"])
    name = f"student-{config['teacher']}-{config['alpha']}-{config['temperature']}.pt"
    torch.save(outcome.model.state_dict(), Path(out) / name)
    tune.report(_figures("student", outcome, started))


def _teacher_file(out: str, alpha: float | None) -> Path:
    return Path(out) / f"teacher-{alpha}.pt"


def _figures(stage: str, outcome: Outcome, started: float) -> dict[str, Any]:
    counts = {name: value for name, value in vars(outcome).items() if name != "model"}
    return {"stage": stage, "train_seconds": time.perf_counter() - started, **counts}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    chosen = _parser().parse_args(arguments)
    imbalance = default_imbalance(chosen.dataset)
    options = DataOptions(imbalance=imbalance, limit_train=chosen.limit_train)
    data = load(chosen.dataset, options, data_dir=chosen.data_dir)
    setup = Setup(
        recipe=recipes.get(chosen.recipe).model_copy(update=_changes(chosen)),
        teacher_architecture=chosen.teacher_architecture,
        student_architecture=chosen.student_architecture,
        multiplier_step_size=chosen.multiplier_step_size,
        seed=chosen.seed,
    )
    out = chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    alphas = tune.grid_search([None, *chosen.alphas])

    def run(trainable: Callable[..., None], space: dict[str, Any]) -> list[dict[str, Any]]:
        with_data = tune.with_parameters(trainable, data=data, setup=setup, out=str(out))
        results = tune.Tuner(
            tune.with_resources(with_data, {"cpu": 1}),
            param_space=space,
            run_config=tune.RunConfig(storage_path=str(out / "ray")),
        ).fit()
        if results.num_errors:
            raise RuntimeError(f"{results.num_errors} trainings failed: {results.errors[0]}")
        return [result.metrics | result.config for result in results]

    ray.init(address="local")
    teachers = run(train_teacher, {"alpha": alphas})
    temperatures = tune.grid_search(chosen.temperatures)
    space = {"teacher": alphas, "alpha": alphas, "temperature": temperatures}
    students = run(train_student, space)
    ray.shutdown()
    (out / "results.json").write_text(json.dumps(teachers + students))


def _changes(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the recipe that the command line changes."""
    names = ("epochs", "batch_size", "learning_rate")
    return {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The naive sweep.")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit-train", type=int)
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 3.0, 5.0])
    parser.add_argument("--teacher-architecture", default="resnet20")
    parser.add_argument("--student-architecture", default="resnet20")
    parser.add_argument("--recipe", default="small-images")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--multiplier-step-size", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
