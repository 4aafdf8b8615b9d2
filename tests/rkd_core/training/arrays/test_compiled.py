"""Compiled forward passes in recorded steps give the steps of eager mode."""

import logging
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.backends.debugging import aot_eager
from torch.utils._python_dispatch import TorchDispatchMode

from rkd_core import methods
from rkd_core.datasets.array_data import ArrayData
from rkd_core.device.execution import Execution
from rkd_core.methods.common.protocol import HeldOut, Needs, Shift
from rkd_core.models import compiled, features
from rkd_core.models.compiled import CompiledForward
from rkd_core.specs import DataOptions, HoldoutRule, Recipe
from rkd_core.teachers.answers import Teacher
from rkd_core.training import loop, train
from rkd_core.training.array import begin_step, validate_all
from rkd_core.training.run import Run
from rkd_core.training.steps import EagerSteps, PlainRecorder, RecordedSteps, RecordingError
from tests.rkd_core.training.arrays.test_arrays import Replay, robust
from tests.rkd_core.training.test_loop import CPU, colourful, student_spec, teacher_spec
from tests.rkd_core.training.test_variants import INSIDE, variant_spec

LOSSES = [
    name
    for name in methods.descriptions()
    if not issubclass(methods.find(name), Shift) and methods.create(name).cell is None
]


class Counting:
    """A backend that counts its compilations."""

    def __init__(self):
        self.count = 0

    def __call__(self, module, inputs):
        self.count += 1
        return aot_eager(module, inputs)


def _student(name, teacher, fingerprint, **fields):
    needs = methods.create(name).needs
    if isinstance(needs.holdout, HoldoutRule):
        first = teacher.model_copy(update={"held_out": needs.holdout})
        fields["initial"] = student_spec(first, fingerprint).teacher
    options = {"weight": 0.1} if name in INSIDE else {}  # without it they diverge here
    return variant_spec(teacher if needs.teacher else None, fingerprint, name, options, **fields)


def array(tmp_path, network):
    """Return the data, the teacher and the specs of students with every loss."""
    data = colourful()
    recipe = Recipe(epochs=2, batch_size=28, learning_rate=0.02, drop_last=False)
    fields = {"architecture": network, "recipe": recipe, "data": DataOptions()}
    teacher = teacher_spec(**fields)
    train([teacher], data=data, out=tmp_path, execution=CPU)
    of = teacher, data.fingerprint
    specs = [
        student_spec(*of, **fields),
        student_spec(*of, objective="balanced", temperature=3.0, **fields),
        student_spec(*of, objective="robust", multipliers=robust(), **fields),
    ]
    specs += [_student(name, *of, **fields) for name in LOSSES]
    array_data = ArrayData(specs[0], data, CPU)
    return array_data, Teacher(specs[0].teacher, array_data, tmp_path), specs


@pytest.mark.parametrize(
    "network",
    [
        "resnet8",
        pytest.param("vgg8", marks=pytest.mark.slow),
        pytest.param("resnet14", marks=pytest.mark.slow),
    ],
)
def test_compiled_steps_are_eager_steps(network, tmp_path):
    """For every loss, with updates, validations and a short batch between recorded steps."""
    array_data, asked, specs = array(tmp_path, network)
    rate, backend = torch.tensor(0.0), Counting()
    held_out = HeldOut(torch.randn(12, 3), torch.arange(12) % 3)
    plain = [Run(spec, "plain", array_data, asked, None, held_out) for spec in specs]
    recorded = [Run(spec, "recorded", array_data, asked, rate, held_out) for spec in specs]
    steps = RecordedSteps(recorded, rate, 28, Replay(), CompiledForward(backend))
    both = EagerSteps(plain), steps
    for epoch in range(2):
        for run in (*plain, *recorded):
            run.begin_epoch(epoch)
        for step, batch in enumerate(array_data.batches.epoch(epoch)):
            begin_step([*plain, *recorded], epoch, step)
            losses = [steps(batch, asked.logits(batch), 0.02).clone() for steps in both]
            torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
        validate_all([*plain, *recorded], epoch + 1)
    needs = {spec.variant.build().needs if spec.variant else Needs() for spec in specs}
    assert backend.count == len({(n.features, n.maps) for n in needs})  # not one for each student
    for one, other in zip(plain, recorded, strict=True):
        torch.testing.assert_close(one.changing(), other.changing(), rtol=1e-3, atol=1e-4)


def one_run(forward, recorder=None, network="resnet8"):
    recipe = Recipe(epochs=1, batch_size=32, learning_rate=0.5)
    spec = teacher_spec(architecture=network, recipe=recipe, data=DataOptions())
    array_data, rate = ArrayData(spec, colourful(), CPU), torch.tensor(0.5)
    run = Run(spec, "0", array_data, None, rate)
    steps = RecordedSteps([run], rate, 32, recorder or PlainRecorder(), forward)
    return run, steps, list(array_data.batches.epoch(0))


def test_a_network_that_cannot_be_compiled_trains_as_it_is(caplog):
    def refuse(module, inputs):
        raise NotImplementedError("an operation")

    caplog.set_level(logging.INFO, "rkd_core")
    _, eager, batches = one_run(features.forward)
    _, steps, _ = one_run(CompiledForward(refuse))
    for batch in batches:
        assert torch.equal(steps(batch, None, 0.1), eager(batch, None, 0.1))
    assert caplog.text.count("is not compiled: ") == 1


def test_a_lack_of_memory_is_no_reason_not_to_compile():
    def full(network, images, needs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    forward = CompiledForward(aot_eager)
    forward._compiled = full
    _, steps, batches = one_run(forward)
    with pytest.raises(torch.OutOfMemoryError):
        steps(batches[0], None, 0.1)


def test_random_networks_are_not_compiled():
    backend = Counting()
    run, steps, batches = one_run(CompiledForward(backend))
    run.model.draws = True
    steps(batches[0], None, 0.1)
    assert backend.count == 0


def test_an_error_says_that_the_steps_were_compiled():
    class Broken(PlainRecorder):
        def record(self, function):
            raise RecordingError("the steps cannot be recorded: no")

    for forward, expected in ((features.forward, False), (partial(features.forward), True)):
        _, steps, batches = one_run(forward, Broken())
        with pytest.raises(RecordingError) as caught:
            steps(batches[0], None, 0.1)
        assert caught.value.compiled is expected


@pytest.mark.parametrize(
    ("compiles", "epochs", "expected"),
    [
        (True, 4_000, True),
        (True, 3, False),
        (False, 4_000, False),
    ],
)
def test_long_trainings_on_a_gpu_are_compiled(monkeypatch, compiles, epochs, expected):
    monkeypatch.setattr(loop, "CudaRecorder", lambda device, n: PlainRecorder())
    monkeypatch.setattr(compiled, "CompiledForward", lambda: "compiled")
    recipe = Recipe(epochs=epochs, batch_size=32)
    spec = teacher_spec(architecture="resnet8", recipe=recipe, data=DataOptions())
    array_data = ArrayData(spec, colourful(), Execution("cpu", compiled=compiles))
    rate = torch.tensor(0.1)
    steps = loop._steps([Run(spec, "0", array_data, None, rate)], rate, array_data)
    assert steps._forward == ("compiled" if expected else features.forward)


class Operations(TorchDispatchMode):
    """The names of the operations on some tensors, or on a list of them."""

    def __init__(self, tensors):
        super().__init__()
        self.names, self._places = [], {tensor.data_ptr() for tensor in tensors}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        first = args[0][0] if args and isinstance(args[0], list) else (args or (None,))[0]
        if isinstance(first, torch.Tensor) and first.data_ptr() in self._places:
            self.names.append(function.overloadpacket.__name__)
        return function(*args, **kwargs or {})


def test_recorded_steps_count_in_one_operation():
    run, steps, batches = one_run(features.forward)
    counters = [v for k, v in run.model.state_dict().items() if k.endswith("batches_tracked")]
    steps(batches[0], None, 0.1)
    with Operations(counters) as operations:
        steps(batches[1], None, 0.1)
    assert operations.names == ["_foreach_add_"]
    assert [int(counter) for counter in counters] == [2] * len(counters)
    assert len(counters) > 5


def _count_again(norm, inputs, output):
    norm.num_batches_tracked.add_(1)


def test_batch_norms_that_count_otherwise_keep_their_counters():
    run, steps, batches = one_run(features.forward)
    norms = [m for m in run.model.modules() if isinstance(m, nn.BatchNorm2d)]
    norms[0].register_forward_hook(_count_again)
    norms[1].momentum = None  # its mean needs the count
    for batch in batches[:2]:
        steps(batch, None, 0.1)
    assert [int(norm.num_batches_tracked) for norm in norms[:3]] == [4, 2, 2]
