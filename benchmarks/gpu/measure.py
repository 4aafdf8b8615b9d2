"""Measure speeds on a GPU, with one process per stage.

    python -m benchmarks.gpu.measure [STAGE [ARGUMENT ...]]

Every stage prints lines of JSON, which docs/gpu.md explains. A stage that exceeds its time limit
loses only its own lines. Images are synthetic. Without a GPU, everything is tiny and the figures
have no meaning.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torch.nn import functional as F

from benchmarks.gpu.common import (
    BATCH,
    DEVICE,
    GPU,
    NETWORK,
    SIDE,
    TINY,
    ArrayData,
    Run,
    StubTeacher,
    Warnings,
    compiled,
    emit,
    execution,
    features,
    made,
    recorder,
    speed,
    steps_of,
    student_spec,
    sync,
    teacher_spec,
    torch,
)


def median(values):
    return sorted(values)[len(values) // 2]


def graphed(function, branches=1, streams=None):
    """Return a replay of ``branches`` calls of a function, each on its own stream."""
    if not GPU:
        return lambda: [function(k) for k in range(branches)]
    made_by = recorder(branches)

    def all_of_them():
        for k in range(branches):
            with made_by.branch(k):
                function(k)
        made_by.join()

    for _ in range(2):
        made_by.warm_up(all_of_them)
    return made_by.record(all_of_them)


def microseconds(replay, repeat=0):
    """Return the median time of a replay."""
    repeat = repeat or (2 if TINY else 20)
    if not GPU:
        start = time.perf_counter()
        replay()
        return (time.perf_counter() - start) * 1e6
    for _ in range(3):
        replay()
    times = []
    for _ in range(repeat):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3)
    return median(times)


# ---- Hardware ------------------------------------------------------------------------------------


def ceilings() -> None:
    """Measure the copy bandwidth, and the nearly empty graph nodes started per second."""
    count = 2**20 if TINY else 2**31
    a = torch.empty(count, dtype=torch.uint8, device=DEVICE)
    b = torch.empty_like(a)
    took = microseconds(lambda: b.copy_(a))
    emit("copy", tb_per_second=round(2 * count / took / 1e6, 3))
    del a, b
    nodes = 20 if TINY else 400
    for branches in (1, 2) if TINY else (1, 2, 4, 8, 16):
        values = [torch.zeros(64, device=DEVICE) for _ in range(branches)]

        def chain(k):
            for _ in range(nodes):
                values[k].add_(1)

        took = microseconds(graphed(chain, branches))
        emit(
            "nodes",
            branches=branches,
            connections=os.environ.get("CUDA_DEVICE_MAX_CONNECTIONS"),
            us_per_node_of_a_branch=round(took / nodes, 3),
            us_per_node=round(took / nodes / branches, 3),
        )


def layers() -> None:
    """Measure a layer's parts by stage of the network: alone, 8 in branches, 8 as groups."""
    students = 2 if TINY else 8
    torch.backends.cudnn.benchmark = not os.environ.get("NO_BENCHMARK")
    for C, side in ((16, SIDE), (32, SIDE // 2), (64, SIDE // 4)):

        def like(channels, dtype=torch.bfloat16):
            t = torch.randn(BATCH, channels, side, side, device=DEVICE, dtype=dtype)
            return t.to(memory_format=torch.channels_last)

        def convolution(x, w, dy, groups):
            y = torch.ops.aten.convolution(
                x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], groups
            )
            g = torch.ops.aten.convolution_backward(
                dy, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], groups, [True, True, False]
            )
            return y, g

        w = [
            torch.randn(C, C, 3, 3, device=DEVICE, dtype=torch.bfloat16).to(
                memory_format=torch.channels_last
            )
            for _ in range(students)
        ]
        xs, dys = ([like(C) for _ in range(students)] for _ in range(2))
        took = {
            "conv alone": microseconds(graphed(lambda k: convolution(xs[k], w[k], dys[k], 1))),
            "conv branches": microseconds(
                graphed(lambda k: convolution(xs[k], w[k], dys[k], 1), students)
            ),
        }
        wide = torch.cat(w).contiguous(memory_format=torch.channels_last)
        x, dy = like(C * students), like(C * students)
        took["conv groups"] = microseconds(graphed(lambda _: convolution(x, wide, dy, students)))

        def norms(dtype):
            kept = [like(C, dtype).requires_grad_() for _ in range(students)]
            grads = [like(C, dtype) for _ in range(students)]
            p = [torch.ones(C, device=DEVICE, requires_grad=True) for _ in range(2 * students)]
            s = [torch.ones(C, device=DEVICE) for _ in range(2 * students)]

            def run(k):
                y = F.relu(
                    F.batch_norm(
                        kept[k], s[2 * k], s[2 * k + 1], p[2 * k], p[2 * k + 1], True, 0.1, 1e-5
                    )
                )
                torch.autograd.grad(y, [kept[k], p[2 * k], p[2 * k + 1]], grads[k])

            return run

        took["bn+relu bf16 alone"] = microseconds(graphed(norms(torch.bfloat16)))
        took["bn+relu bf16 branches"] = microseconds(graphed(norms(torch.bfloat16), students))
        if GPU:
            took["bn+relu fp16 (cudnn) alone"] = microseconds(graphed(norms(torch.float16)))
            took["bn+relu fp16 (cudnn) branches"] = microseconds(
                graphed(norms(torch.float16), students)
            )
            from benchmarks.gpu import fused

            def ours(many):
                kept = [
                    torch.cat([like(C)] * many)
                    .contiguous(memory_format=torch.channels_last)
                    .requires_grad_()
                    for _ in range(students)
                ]
                grads = [torch.randn_like(t) for t in kept]
                p = [
                    torch.ones(many, C, device=DEVICE, requires_grad=True)
                    for _ in range(2 * students)
                ]
                s = [torch.ones(many, C, device=DEVICE) for _ in range(2 * students)]

                def run(k):
                    y = fused.norm(
                        kept[k], p[2 * k], p[2 * k + 1], s[2 * k], s[2 * k + 1], students=many
                    )
                    torch.autograd.grad(y, [kept[k], p[2 * k], p[2 * k + 1]], grads[k])

                return run

            took["bn+relu fused alone"] = microseconds(graphed(ours(1)))
            took["bn+relu fused branches"] = microseconds(graphed(ours(1), students))
            took["bn+relu fused stacked"] = microseconds(graphed(ours(students)))
        emit(
            "layer",
            channels=C,
            students=students,
            benchmark=torch.backends.cudnn.benchmark,
            microseconds={n: round(t, 1) for n, t in took.items()},
        )


LIMITS = {
    "by_arithmetic": 790e12 / 0.752e9,
    "by_unfused_traffic": 4.3e12 / 3.0e9 * 128,
}
"""Images per second of ResNet-56 on an H200: 0.752 GFLOP per trained image at 790 TFLOP/s, and 3.0 GB
per step of 128 at 4.3 TB/s, which fused kernels would reduce."""


# ---- Steps ---------------------------------------------------------------------------------------


class LeanRun:
    """A ResNet student with bfloat16 copies of its weights, fused norms, and no counters.

    It replaces ``Run`` in ``RecordedSteps``, with the same one-hot and margin loss.
    """

    def __init__(self, spec, run_id, array_data, teacher, rate) -> None:
        self.run = Run(spec, run_id, array_data, teacher, rate)
        self.cause = None
        self.model = model = self.run.model
        self.optimizer = self.run.optimizer
        self.wide = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
        self.half = {}
        for m in model.modules():
            if isinstance(m, torch.nn.Conv2d):
                self.half[m] = m.weight.detach().bfloat16().requires_grad_()
        self.narrow = list(self.half.values())

    def changing(self):
        return self.run.changing()

    def _norm(self, x, bn, other=None, relu=True):
        from benchmarks.gpu import fused

        w, b = bn.weight[None], bn.bias[None]
        return fused.norm(
            x, w, b, bn.running_mean[None], bn.running_var[None], other=other, relu=relu
        )

    def _conv(self, x, m):
        return F.conv2d(x, self.half[m], None, m.stride, m.padding)

    def step(self, images, labels, logits, mix=None, forward=None):
        net, run = self.run.model, self.run
        with torch.no_grad():
            torch._foreach_copy_(self.narrow, self.wide)
        x = self._norm(self._conv(images.bfloat16(), net.stem[0]), net.stem[1])
        for block in net.stages:
            c1, n1, _, c2, n2 = block.residual
            other = x
            if isinstance(block.shortcut, torch.nn.Sequential):
                other = self._norm(self._conv(x, block.shortcut[0]), block.shortcut[1], relu=False)
            y = self._norm(self._conv(x, c1), n1)
            x = self._norm(self._conv(y, c2), n2, other=other)
        out = F.linear(x.float().mean((2, 3)), net.classifier.weight, net.classifier.bias)
        from rkd_core.objectives import margin_loss

        loss = margin_loss(out, run.targets(labels, logits), run.costs)
        self.optimizer.zero_grad()
        for half in self.narrow:
            half.grad = None
        loss.backward()
        grads = [torch.empty_like(w) for w in self.wide]
        torch._foreach_copy_(grads, [half.grad for half in self.narrow])
        for w, g in zip(self.wide, grads, strict=True):
            w.grad = g
        self.optimizer.step()
        return loss.detach()


@contextlib.contextmanager
def variant(name: str):
    """Return the changes of a variant, and the class of its runs."""
    make, undo = Run, []
    if name == "no_cudnn_benchmark":
        torch.backends.cudnn.benchmark = False
    elif name == "fp16":
        from rkd_core.device.execution import Execution

        device = "cuda" if GPU else "cpu"
        old, Execution.autocast = (
            Execution.autocast,
            lambda self: torch.autocast(
                device, dtype=torch.float16 if GPU else torch.bfloat16, cache_enabled=False
            ),
        )
        undo.append(lambda: setattr(Execution, "autocast", old))
    elif name == "lean":
        if not GPU:
            os.environ["TRITON_INTERPRET"] = "1"
        make = LeanRun
    try:
        yield make
    finally:
        for each in undo:
            each()


def steps(name: str = "baseline", *counts: str) -> None:
    """Measure images per second of a variant: one eager student (baseline), several recorded."""
    counts = [int(c) for c in counts] or ([1, 2] if TINY else [1, 8])
    data = made()
    of = teacher_spec(NETWORK)
    spec = student_spec(of, data)
    run = execution()  # before the variant, which changes its settings
    array_data = ArrayData(spec, data, run)
    teacher, warned, found = StubTeacher(array_data), Warnings(), {}
    forward = compiled() if name == "compile" else features.forward
    with variant(name) as make:
        if name in ("baseline", "no_cudnn_benchmark"):
            _, eager = steps_of([spec], array_data, teacher, recorded=False, make=make)
            found["eager"] = round(median([speed(eager, array_data, teacher, 1) for _ in range(3)]))
        for count in counts:
            began = time.perf_counter()
            runs, recorded = steps_of(
                [spec] * count, array_data, teacher, recorded=True, make=make, forward=forward
            )
            first = speed(recorded, array_data, teacher, count, 1)  # records
            ready = time.perf_counter() - began
            found[count] = round(
                median([speed(recorded, array_data, teacher, count) for _ in range(3)])
            )
            losses = recorded._losses.tolist()
            if GPU:
                found[f"{count} MiB"] = round(torch.cuda.max_memory_reserved() / 2**20)
            found[f"{count} ready s"] = round(ready, 1)
            del runs, recorded, first
    best = max(found[count] for count in counts)
    emit(
        "steps",
        variant=name,
        over_eager={k: round(found[k] / found["eager"], 2) for k in counts if "eager" in found},
        share_of_the_limits={k: round(best / limit, 4) for k, limit in LIMITS.items()},
        connections=os.environ.get("CUDA_DEVICE_MAX_CONNECTIONS"),
        images_per_second=found,
        losses=losses[:2],
        warned=warned.said[:2],
    )


def kernels() -> None:
    """Measure the kernels of one student's recorded step, by name: count and microseconds."""
    from torch.profiler import ProfilerActivity, profile

    data = made()
    spec = student_spec(teacher_spec(NETWORK), data)
    array_data = ArrayData(spec, data, execution())
    teacher = StubTeacher(array_data)
    for count in (1,) if TINY else (1, 8):
        _, recorded = steps_of([spec] * count, array_data, teacher, recorded=True)
        batch = next(iter(array_data.batches.epoch(0)))
        logits = teacher.logits(batch)
        for _ in range(3):
            recorded(batch, logits, 0.01)
        sync()
        repeat = 1 if TINY else 5
        with profile(activities=[ProfilerActivity.CUDA if GPU else ProfilerActivity.CPU]) as seen:
            for _ in range(repeat):
                recorded._replay()
            sync()
        rows = [
            (
                e.key[:90],
                e.count / repeat,
                (e.self_device_time_total if GPU else e.self_cpu_time_total) / repeat,
            )
            for e in seen.key_averages()
        ]
        rows.sort(key=lambda r: -r[2])
        emit(
            "kernels",
            students=count,
            nodes=sum(r[1] for r in rows),
            microseconds=round(sum(r[2] for r in rows)),
            top=[[n, round(c), round(t)] for n, c, t in rows[:28]],
        )


def evaluations() -> None:
    """Measure milliseconds of evaluating 4,096 images: plain, folded, ReLU fused, compiled."""
    from rkd_core.models.fold import FoldedNetwork
    from rkd_core.models.inference import predictions_of_all

    data = made()
    spec = teacher_spec(NETWORK)
    array_data = ArrayData(spec, data, execution())
    run = Run(spec, "0", array_data, None)
    batch = next(iter(array_data.validation))
    took = {}

    def clock(name, function):
        for _ in range(2):
            function()
        sync()
        times = []
        for _ in range(2 if TINY else 7):
            start = time.perf_counter()
            function()
            sync()
            times.append((time.perf_counter() - start) * 1e3)
        took[name] = round(median(times), 2)

    clock("as it is", lambda: predictions_of_all([run.model], [batch], run.data.execution))
    copied = FoldedNetwork(run.model, (3, SIDE, SIDE))
    clock("refresh of the folded copy", copied.refresh)
    clock("folded", lambda: predictions_of_all([copied.module], [batch], run.data.execution))
    folded = copied.module.to(torch.bfloat16).to(memory_format=torch.channels_last)
    images = batch.images.bfloat16()
    with torch.no_grad():
        clock("folded, bfloat16 weights", lambda: folded(images).argmax(1))
        if GPU:
            try:
                compiled = torch.compile(folded, dynamic=False)
                clock("folded, compiled", lambda: compiled(images).argmax(1))
            except Exception as error:
                took["folded, compiled"] = str(error)[:200]

            def conv(x, m, z=None):
                if z is None:
                    return torch.cudnn_convolution_relu(
                        x, m.weight, m.bias, m.stride, m.padding, m.dilation, 1
                    )
                return torch.cudnn_convolution_add_relu(
                    x, m.weight, z, 1.0, m.bias, m.stride, m.padding, m.dilation, 1
                )

            def fused_relu(x):
                x = conv(
                    x,
                    folded.stem[0]
                    if isinstance(folded.stem, torch.nn.Sequential)
                    else folded.get_submodule("stem.0"),
                )
                for k in range(len(run.model.stages)):
                    part = folded.get_submodule(f"stages.{k}")
                    c1, c2 = part.get_submodule("residual.0"), part.get_submodule("residual.3")
                    short = (
                        part.get_submodule("shortcut.0")(x)
                        if isinstance(run.model.stages[k].shortcut, torch.nn.Sequential)
                        else x
                    )
                    x = conv(conv(x, c1), c2, short)
                return folded.classifier(x.mean((-2, -1)))

            try:
                clock("folded, ReLU fused by cuDNN", lambda: fused_relu(images).argmax(1))
                apart = (fused_relu(images) - folded(images)).abs().max()
                took["apart"] = float(apart)
            except Exception as error:
                took["folded, ReLU fused by cuDNN"] = f"{type(error).__name__}: {str(error)[:200]}"
    emit("evaluations", images=len(images), milliseconds=took)


def grid() -> None:
    """Estimate minutes of the whole grid from a few epochs of its arrays: 6 teachers, 18 students.

    Runs ``train`` with the paper's multipliers and with teacher logits on all views.
    """
    from rkd_core.teachers.answers import Teacher
    from rkd_core.training import train

    epochs = 2 if TINY else 4
    data = made(test=64 if TINY else 5000)
    objectives = [("standard", None)] + [("tradeoff", a) for a in (0.0, 0.25, 0.5, 0.75, 1.0)]
    teachers = [teacher_spec(NETWORK, epochs, objective=o, alpha=a) for o, a in objectives]
    run, parts = execution(), {}
    with tempfile.TemporaryDirectory() as out:

        def array(name, specs):
            moments, began = [], time.perf_counter()
            first = []

            def report(progress):
                first.append(progress.run_id) if not first else None
                if progress.run_id == first[0]:
                    moments.append(time.perf_counter())

            train(specs, data=data, out=out, execution=run, report=report, checkpoint_every=10**6)
            ended = time.perf_counter()
            epoch = median([b - a for a, b in zip(moments, moments[1:])])
            parts[name] = {
                "epoch": epoch,
                "before": moments[0] - began - epoch,
                "after": ended - moments[-1],
            }

        array("teachers", teachers[: 2 if TINY else 6])
        # A student of 200 epochs needs its teacher's logits on every view, here 50 per image.
        whole = student_spec(teachers[0], data)
        whole = whole.model_copy(update={"recipe": whole.recipe.model_copy(update={"epochs": 200})})
        array_data = ArrayData(whole, data, run)
        began = time.perf_counter()
        Teacher(whole.teacher, array_data, Path(out))
        parts["ask"] = {"before": time.perf_counter() - began, "views": whole.recipe.views}
        students = [
            student_spec(teachers[0], data, objective=o, alpha=a, temperature=t)
            for t in (1.0, 3.0, 5.0)
            for o, a in objectives
        ]
        array("18 students", students[: 2 if TINY else 18])
        array(
            "18 students without multipliers",
            [
                student_spec(teachers[0], data, temperature=1.5 + k / 8)
                for k in range(2 if TINY else 18)
            ],
        )

    def minutes(part):
        return (part["before"] + 200 * part["epoch"] + part["after"]) / 60

    asks = parts["ask"]["before"] / 60
    whole = minutes(parts["teachers"]) + 6 * (asks + minutes(parts["18 students"]))
    emit(
        "grid",
        seconds={n: {k: round(v, 3) for k, v in p.items()} for n, p in parts.items()},
        minutes_of_the_whole=round(whole, 1),
        steps_an_epoch=len(data.train) // BATCH,
    )


STAGES = [  # name, arguments, limit in seconds, environment
    ("ceilings", [], 30, {}),
    ("steps", ["baseline", "1", "4", "8", "18"], 80, {}),
    ("grid", [], 130, {}),
    ("kernels", [], 40, {}),
    ("steps", ["compile", "1", "8"], 130, {}),
    ("evaluations", [], 70, {}),
    ("layers", [], 60, {}),
    ("steps", ["lean"], 60, {}),
    ("steps", ["no_cudnn_benchmark", "1", "8"], 50, {}),
    ("steps", ["baseline", "8", "18"], 60, {"CUDA_DEVICE_MAX_CONNECTIONS": "8"}),
    ("steps", ["fp16"], 40, {}),
    ("layers", [], 60, {"NO_BENCHMARK": "1"}),
]


def main() -> None:
    if len(sys.argv) > 1:
        stages = {name: globals()[name] for name, *_ in STAGES}
        if sys.argv[1] not in stages:
            raise SystemExit(f"usage: python -m benchmarks.gpu.measure [{' | '.join(stages)}]")
        stages[sys.argv[1]](*sys.argv[2:])
        return
    if GPU:
        emit("device", device=torch.cuda.get_device_name(), torch=torch.__version__)
    limit, began = float(os.environ.get("LIMIT", 400 if GPU else 6000)), time.perf_counter()
    for name, arguments, most, extra in STAGES:
        left = limit - (time.perf_counter() - began)
        what = " ".join([name, *arguments, *(f"{k}={v}" for k, v in extra.items())])
        if left < 15:
            print(f"# no time for {what}", flush=True)
            continue
        start = time.perf_counter()
        if TINY:
            arguments, most = [a for a in arguments if not a.isdigit()], 600
        try:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.gpu.measure", name, *arguments],
                timeout=min(left, most),
                capture_output=True,
                text=True,
                env=os.environ | extra,
            )
            print(done.stdout, end="")
            if done.returncode:
                emit(name, failed=what, error=done.stderr[-800:])
        except subprocess.TimeoutExpired as late:
            print((late.stdout or b"").decode(), end="")
            emit(name, failed=what, error="timed out")
        print(f"# {what} took {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
