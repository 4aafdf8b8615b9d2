"""Networks from outside the registry, initial weights and given logits, checked before training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from rkd_core import datasets, models
from rkd_core.errors import UserError, require
from rkd_core.methods.common.protocol import Needs, Shift
from rkd_core.models import Pretrained
from rkd_core.specs import GIVEN_LOGITS, TrainingSpec
from rkd_core.teachers import given_logits
from rkd_core.teachers.given_logits import GivenLogits
from sweeps.cli.options import TrainingChoice
from sweeps.planning.defaults import Defaults

__all__ = [
    "NO_WEIGHTS",
    "Weights",
    "check_suited",
    "given_networks",
    "given_teacher",
    "given_weights",
    "student_architectures",
    "teacher_architecture",
]


class Weights(NamedTuple):
    """Initial weights of teachers and students; without any, they are random."""

    teachers: Pretrained | None = None
    students: Mapping[str, Pretrained] = MappingProxyType({})
    """Initial weights of the students' networks that have any, by architecture."""


NO_WEIGHTS = Weights()
"""Random initial weights."""


def given_networks(
    training: TrainingChoice, dataset: datasets.Dataset
) -> dict[str, models.Identity]:
    """Return the networks from outside the registry, built and tried, by the options' texts.

    Raises:
        UserError: A network cannot be used; the message names the option.
    """
    found: dict[str, models.Identity] = {}
    for flag, text in (
        ("--teacher-architecture", training.teacher_architecture),
        *(("--student-architecture", text) for text in training.student_architecture or ()),
    ):
        if text is None or text in found or not models.is_foreign(text):
            continue
        try:
            found[text] = models.identify(
                text, dataset.classes, dataset.channels, dataset.image_size
            )
        except UserError as error:
            raise UserError(f"{flag} {error}") from error
    return found


def teacher_architecture(
    training: TrainingChoice,
    defaults: Defaults,
    networks: Mapping[str, models.Identity],
    dataset: datasets.Dataset,
) -> str:
    """Return the name in specs of the network of the teachers.

    Raises:
        UserError: A registered network does not take the shape of the data.
    """
    text = training.teacher_architecture or defaults.teacher_architecture
    return _architecture("--teacher-architecture", text, networks, dataset)


def student_architectures(
    training: TrainingChoice,
    defaults: Defaults,
    networks: Mapping[str, models.Identity],
    dataset: datasets.Dataset,
) -> tuple[str, ...]:
    """Return the names in specs of the networks of the students.

    Raises:
        UserError: A registered network does not take the shape of the data, or two texts name the
            same network.
    """
    flag = "--student-architecture"
    texts = training.student_architecture or (defaults.student_architecture,)
    names = [_architecture(flag, text, networks, dataset) for text in texts]
    for place, name in enumerate(names):
        first = texts[names.index(name)]
        require(
            names.index(name) == place,
            f"{flag}: {first} and {texts[place]} are both called {name} in records; "
            "rename one of the networks",
        )
    return tuple(names)


def _architecture(
    flag: str, text: str, networks: Mapping[str, models.Identity], dataset: datasets.Dataset
) -> str:
    if text in networks:
        return networks[text].architecture
    name = models.canonical(text)
    try:
        models.check_shape(name, dataset.train.input_shape)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None
    return name


def given_weights(
    training: TrainingChoice,
    dataset: datasets.Dataset,
    networks: Mapping[str, models.Identity],
) -> Weights:
    """Return the initial weights of teachers and students.

    They are those of a file, or those that a user's network brings along.

    Raises:
        UserError: A file does not fit its network or the data.
    """
    teachers = _weights(
        "--teacher-weights",
        training.teacher_weights,
        training.teacher_architecture,
        dataset,
        networks,
    )
    require(
        training.teacher_epochs != 0 or teachers is not None,
        "--teacher-epochs 0 needs --teacher-weights, the weights to use, or a network that brings "
        "its own",
    )
    require(
        training.teacher_epochs != 0 or teachers is None or teachers.classes == dataset.classes,
        f"--teacher-epochs 0: {training.teacher_weights} has "
        f"{teachers.classes if teachers else 0} classes and {dataset.name} has "
        f"{dataset.classes}, so its classifier has to be replaced and trained",
    )
    students = {}
    for text in training.student_architecture or ():
        own = _weights("--student-weights", training.student_weights, text, dataset, networks)
        if own is not None:
            name = networks[text].architecture if text in networks else models.canonical(text)
            students[name] = own
    return Weights(teachers, students)


def _weights(
    flag: str,
    path: Path | None,
    architecture: str | None,
    dataset: datasets.Dataset,
    networks: Mapping[str, models.Identity],
) -> Pretrained | None:
    if architecture is None:
        return None
    network = networks.get(architecture)
    if path is None:
        return None if network is None else models.own_weights(network, dataset.classes)
    try:
        return models.read_pretrained(
            path,
            architecture if network is None else network.architecture,
            dataset.classes,
            dataset.channels,
            dataset.image_size,
            None if network is None else network.digest,
        )
    except UserError as error:
        raise UserError(f"{flag} {error}") from None


def given_teacher(training: TrainingChoice, dataset: datasets.Dataset) -> GivenLogits | None:
    """Return the logits of a teacher without a network, checked; None if none are given.

    Raises:
        UserError: They do not fit the data.
    """
    if training.teacher_logits is None:
        return None
    try:
        return given_logits.read(training.teacher_logits.expanduser(), dataset)
    except UserError as error:
        raise UserError(f"--teacher-logits {error}") from None


def check_suited(
    networks: Mapping[str, models.Identity],
    specs: Iterable[TrainingSpec],
    dataset: datasets.Dataset,
) -> None:
    """Check that networks have the parts that methods and derived teachers use.

    These are a final linear layer, with a bias for shifts, and stages for comparisons of features.

    Raises:
        UserError: A part is missing; the message names the network.
    """
    arrays = not dataset.of_images
    if not networks and not arrays:
        return
    import torch

    from rkd_core.models.base import evaluating
    from rkd_core.models.features import forward

    digests = {one.architecture: one.digest for one in networks.values()}
    checked = {
        use
        for spec in specs
        for use in _uses(spec)
        if use[0] in digests or (arrays and use[0] != GIVEN_LOGITS)
    }
    for architecture, needs, shifts in sorted(checked, key=str):
        network = models.build(
            architecture,
            dataset.classes,
            dataset.channels,
            dataset.image_size,
            seed=0,
            digest=digests.get(architecture),
        )
        if network.classifier.bias is None and shifts:
            raise UserError(f"{architecture} has a classifier without a bias, which is shifted")
        blank = torch.zeros(1, dataset.channels, *dataset.image_size)
        with evaluating(network):
            forward(network, blank, needs)


def _uses(spec: TrainingSpec) -> list[tuple[str, Needs, bool]]:
    """Return networks of which a training uses parts, the needs, and whether it shifts logits."""
    if spec.derived is not None and spec.derived.by != "warm":
        return [(spec.architecture, Needs(), spec.derived.by == "shifted")]
    if spec.variant is None:
        return []
    method = spec.variant.build()
    if isinstance(method, Shift):
        return [(spec.architecture, Needs(), True)]
    needs = Needs(features=method.needs.features, maps=method.needs.maps)
    if needs == Needs():
        return []
    teacher = [] if spec.teacher is None else [spec.teacher.architecture]
    return [(name, needs, False) for name in (spec.architecture, *teacher)]
