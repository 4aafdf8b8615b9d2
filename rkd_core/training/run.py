"""State of one training: network, optimizer, targets, costs and multipliers."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from rkd_core import models
from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.batches.transforms import LabelMix
from rkd_core.errors import DivergedError
from rkd_core.methods.common.losses import Loss
from rkd_core.methods.common.protocol import Context, HeldOut, LossInputs, Needs
from rkd_core.models.base import Network, channels_last
from rkd_core.models.features import Forward, forward, needs_activations, shapes
from rkd_core.models.fold import FoldedNetwork
from rkd_core.models.inference import NOT_FINITE
from rkd_core.models.predictor import AveragedLogits
from rkd_core.objectives import class_costs, margin_loss
from rkd_core.seeds import stream_seed
from rkd_core.specs import TrainingSpec
from rkd_core.teachers.answers import Teacher
from rkd_core.training.multiplier_updates import Ascent
from rkd_core.training.optimizer import optimizer_for
from rkd_core.training.targets import OneHotTargets, Targets, TeacherTargets, true_probabilities
from rkd_core.training.weight_average import WeightAverage

__all__ = ["Run"]

log = logging.getLogger(__name__)


class Run:
    """State of one training; data are shared by all trainings of an array.

    Args:
        spec: Spec of the training.
        run_id: Run id of the spec.
        data: Data, batches and device.
        teacher: Teacher of a student; None for a teacher.
        rate: Tensor from which the learning rate is read; by default ``set_rate`` sets it.
        held_out: Hold-out set for a method that needs one.

    Attributes:
        cause: Reason why the training was abandoned; None if it was not.
        train_loss: Mean loss over the last epoch.
        seconds: Time spent on the training so far.
        data: Data of the training.
        position: Epoch and step of the next step, counted from 0.
        ascent: Multipliers; None if the objective has none.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        run_id: str,
        data: ArrayData,
        teacher: Teacher | None,
        rate: Tensor | None = None,
        held_out: HeldOut | None = None,
    ) -> None:
        dataset, device = data.dataset, data.execution.device
        self.spec, self.run_id = spec, run_id
        self.cause: str | None = None
        self.train_loss = math.nan
        self.seconds = 0.0
        self.data = data
        self._needs = Needs() if spec.variant is None else spec.variant.build().needs
        network = models.build(
            spec.architecture,
            dataset.classes,
            dataset.channels,
            dataset.image_size,
            seed=stream_seed("weights", spec.stage, spec.seed),
            class_maps=self._needs.maps,
            digest=spec.network_digest,
        )
        self.model = channels_last(network.to(device))
        head = spec.derived is not None and spec.derived.by == "head"
        self.model.train(not head)
        if head:  # only the classifier is trained; batch norm stays in evaluation mode
            self.model.requires_grad_(False)
            self.model.classifier.requires_grad_(True)
        self._teacher = teacher if needs_activations(self._needs) else None
        if self._needs.maps and self.model.classifier.bias is not None:
            nn.init.zeros_(self.model.classifier.bias).requires_grad_(False)
        self.loss = _loss(spec, data, held_out, self.model, self._teacher)
        # Parameters of the loss are optimized like those of the student.
        self._trained = nn.ModuleList(
            [self.model] if self.loss is None else [self.model, self.loss]
        )
        self._epoch = torch.ones((), device=device)  # updated in place, for recorded steps
        self.optimizer = optimizer_for(self._trained, spec.recipe, rate)
        decay = spec.recipe.ema_decay if spec.recipe.epochs else None
        self._average = None if decay is None else WeightAverage(self.model, decay)
        self.targets: Targets = (
            OneHotTargets(dataset, device, spec.recipe.label_smoothing)
            if teacher is None or spec.temperature is None
            else TeacherTargets(teacher, spec.temperature)
        )
        self.ascent: Ascent | None = None
        if spec.multipliers is not None:
            true = teacher is None or spec.multipliers.val_labels == "true"
            labels = true_probabilities(dataset, device) if true else self.targets.validation
            self.ascent = Ascent(spec.multipliers, labels, data)
        # Costs are updated in place, because recorded steps read the same memory.
        self.costs = self._current_costs()
        self._iterates: list[dict[str, Tensor]] = []
        self.position = 0, 0
        self._validations: dict[int, list[int]] = {}  # correct predictions by class, by epochs done

    @property
    def uses_live_teacher(self) -> bool:
        """Whether the teacher runs on every batch, for activations in addition to logits."""
        return self._teacher is not None

    @property
    def multipliers(self) -> list[float] | None:
        """Current multipliers lambda by class; None if the objective has none."""
        return None if self.ascent is None else self.ascent.log_multipliers.exp().tolist()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""
        self.optimizer.rate = rate

    def begin_epoch(self, epoch: int) -> None:
        """Set the epoch of the next steps, counted from 0."""
        self._epoch.fill_(epoch + 1)
        if self.model.draws and self.data.execution.on_gpu:
            torch.cuda.manual_seed(stream_seed("draws", self.run_id, epoch))

    def changing(self) -> list[Tensor]:
        """Return the tensors that a step updates in place, except those of the optimizer."""
        averages = [] if self._average is None else self._average.changing()
        return [*self._trained.state_dict().values(), *averages]

    def step(
        self,
        images: Tensor,
        labels: Tensor,
        logits: Tensor | None,
        mix: LabelMix | None = None,
        forward: Forward = forward,
    ) -> Tensor:
        """Take one step of the optimizer; return the loss before the step, a scalar on the device.

        Args:
            images: Images, float32 ``(batch, channels, height, width)``.
            labels: True labels, int64 ``(batch,)``.
            logits: Logits of the teacher, float32 ``(batch, classes)``; None without a teacher.
            mix: Second labels of mixed images; None if they are not mixed.
            forward: Forward pass of the network.
        """
        with self.data.execution.autocast(), self._drawing():
            own = forward(self.model, images, self._needs)
        if self.loss is None:
            wanted = self.targets(labels, logits)
            if mix is not None:
                wanted = torch.lerp(self.targets(mix.labels, logits), wanted, mix.share)
            loss = margin_loss(own.logits, wanted, self.costs, self.spec.scale_by_classes)
        else:
            other = None if self._teacher is None else self._teacher.outputs(images, self._needs)
            inputs = LossInputs(
                labels,
                own.logits,
                logits,
                student_features=own.features,
                teacher_features=None if other is None else other.features,
                student_maps=own.maps,
                teacher_maps=None if other is None else other.maps,
                epoch=self._epoch,
            )
            loss = self.loss(inputs)
            if mix is not None:
                second = self.loss(replace(inputs, labels=mix.labels))
                loss = torch.lerp(second, loss, mix.share.to(loss.dtype))
        self.optimizer.zero_grad()
        loss.backward()
        if self.spec.recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self._trained.parameters(), self.spec.recipe.gradient_clip)
        self.optimizer.step()
        if self._average is not None:
            self._average.update()
        return loss.detach()

    def end_epoch(self, epoch: int, losses: Tensor) -> None:
        """Check the losses of an epoch, and store the weights if they are an iterate to average.

        Args:
            epoch: Epoch, counted from 0.
            losses: Losses of its steps, float32 ``(steps,)`` on the CPU.

        Raises:
            DivergedError: A loss is not finite.
        """
        if self.ascent is not None and not self.ascent.finite:
            raise DivergedError(NOT_FINITE)
        self.train_loss = float(losses.double().mean())
        if not math.isfinite(self.train_loss):
            bad = int((~torch.isfinite(losses)).nonzero()[0])
            raise DivergedError(f"the loss is {float(losses[bad])} at epoch {epoch}, step {bad}")
        n = None if self.spec.multipliers is None else self.spec.multipliers.averaged_iterates
        epochs = self.spec.recipe.epochs
        if n is not None and epoch + 1 in {(k * epochs) // n for k in range(1, n + 1)}:
            weights = self.model.state_dict().items()
            self._iterates.append({name: value.detach().clone() for name, value in weights})

    def validated(self, epochs: int, columns: dict[str, Any]) -> None:
        """Keep the figures of a validation after ``epochs`` epochs, columns of the record."""
        self._validations[epochs] = columns["val_class_correct"]

    @cached_property
    def folded(self) -> FoldedNetwork | None:
        """Copy of the network for evaluation on a GPU; None if it cannot be folded."""
        dataset = self.data.dataset
        try:
            return FoldedNetwork(self.model, (dataset.channels, *dataset.image_size))
        except Exception as error:  # a network that cannot be traced is used without folding
            log.info("%s is not folded: %s", self.spec.architecture, error)
            return None

    @property
    def updating(self) -> nn.Module:
        """Network with the current weights, for the evaluation of a multiplier update."""
        if not self.data.execution.on_gpu or self.folded is None:
            return self.model  # on a CPU, folding would change the last bits
        self.folded.refresh()
        return self.folded.module

    @property
    def validations(self) -> dict[str, Any]:
        """Columns of the record with the validations during the training."""
        return {
            "val_epochs": list(self._validations),
            "val_epoch_class_correct": list(self._validations.values()),
        }

    def state(self) -> dict[str, Tensor]:
        """Return everything that changes during the training, for ``load``."""
        state = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        if self.loss is not None:
            state |= {f"loss/{name}": value for name, value in self.loss.state_dict().items()}
        for place, parameter in enumerate(self._trained.parameters()):
            for kind, values in self.optimizer.state.items():
                if parameter in values:
                    state[f"{kind}/{place}"] = values[parameter]
        if self._average is not None:
            weights = self._average.model.state_dict()
            state |= {f"average/{name}": value for name, value in weights.items()}
        if self.ascent is not None:
            state["multipliers/log"] = self.ascent.log_multipliers
            state["multipliers/updates"] = torch.tensor(self.ascent.updates)
        for number, weights in enumerate(self._iterates):
            state |= {f"iterate/{number}/{name}": value for name, value in weights.items()}
        if self._validations:
            rows = [[epochs, *correct] for epochs, correct in self._validations.items()]
            state["looks"] = torch.tensor(rows)
        state["seconds"] = torch.tensor(self.seconds, dtype=torch.float64)
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load a state; the continued training is identical to the last bit."""

        def part(prefix: str) -> dict[str, Tensor]:
            found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            return {name: value.to(self.data.execution.device) for name, value in found.items()}

        self.model.load_state_dict(part("model/"))
        if self.loss is not None:
            self.loss.load_state_dict(part("loss/"))
        parameters = list(self._trained.parameters())
        for kind in self.optimizer.state:
            for place, value in part(f"{kind}/").items():
                self.optimizer.restore(kind, parameters[int(place)], value)
        if self._average is not None:
            self._average.load(part("average/"))
        if self.ascent is not None:
            self.ascent.log_multipliers = part("multipliers/")["log"]
            self.ascent.updates = int(state["multipliers/updates"])
            self.update_costs()
        while weights := part(f"iterate/{len(self._iterates)}/"):
            self._iterates.append(weights)
        if "looks" in state:
            self._validations = {row[0]: row[1:] for row in state["looks"].tolist()}
        self.seconds = float(state["seconds"])

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        """Seed the random draws of a forward pass by run, epoch and step.

        On a GPU they are seeded at the begin of an epoch, because recorded steps cannot seed.
        """
        if not self.model.draws or self.data.execution.on_gpu:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream_seed("draws", self.run_id, *self.position))
            yield

    @property
    def evaluated(self) -> nn.Module:
        """Network that is evaluated: the one with averaged weights if there is one."""
        return self.model if self._average is None else self._average.model

    @property
    def iterates(self) -> int | None:
        """Number of iterates that the final model averages; None if it is the last iterate."""
        return len(self._iterates) or None

    def final(self) -> nn.Module:
        """Return the final model: the network, or the mean of the logits of the iterates.

        The weights of the network are those of the last step, or their moving average.
        """
        if not self._iterates:
            return self.evaluated
        dataset, networks = self.data.dataset, []
        for weights in self._iterates:
            network = models.build(
                self.spec.architecture,
                dataset.classes,
                dataset.channels,
                dataset.image_size,
                seed=0,
                digest=self.spec.network_digest,
            )
            network.load_state_dict(weights)
            networks.append(network)
        averaged = AveragedLogits(networks).to(self.data.execution.device)
        return channels_last(averaged).eval()

    def update_costs(self) -> None:
        """Compute the class costs from the current multipliers."""
        self.costs.copy_(self._current_costs())

    def _current_costs(self) -> Tensor:
        """Return the current class costs, float64 ``(classes,)``."""
        multipliers = None if self.ascent is None else self.ascent.log_multipliers.exp()
        named, priors = self.spec.objective, self.targets.priors
        digest = self.spec.objective_digest
        return class_costs(named, priors, multipliers, self.spec.alpha, digest)


def _loss(
    spec: TrainingSpec,
    data: ArrayData,
    held_out: HeldOut | None,
    model: Network,
    teacher: Teacher | None,
) -> Loss | None:
    """Return the loss of the spec's method; None if it is the margin loss of an objective.

    Args:
        spec: Spec of the training.
        data: Data of the training.
        held_out: Hold-out set for a method that needs one.
        model: Network of the student.
        teacher: Teacher for a method that compares activations; None for all others.
    """
    if spec.variant is None:
        return None
    method = spec.variant.build()
    if method.cell is not None or spec.objective != "standard":
        return None
    dataset = data.dataset
    context = Context(
        classes=dataset.classes,
        device=data.execution.device,
        seed=spec.seed,
        epochs=spec.recipe.epochs,
        class_counts=tuple(dataset.class_counts("train").tolist()),
        label_smoothing=spec.recipe.label_smoothing,
        held_out=held_out,
    )
    if teacher is not None:
        student = shapes(model, dataset.channels, dataset.image_size)
        context = replace(
            context,
            student_shapes=student[0],
            teacher_shapes=teacher.shapes[0],
            student_width=student[1],
            teacher_width=teacher.shapes[1],
        )
    return method.loss(context)
