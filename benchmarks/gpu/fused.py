"""Fused batch norm, residual sum and ReLU for channels-last bfloat16, as a prototype in Triton.

There are two kernels forward and two backward. The prototype measures speed on a GPU, or (with
``TRITON_INTERPRET=1``) checks numbers on a CPU.

For the same operations PyTorch 2.11 runs 4 + 1 + 1 + 1 kernels forward (statistics, a memset for
their semaphores, running statistics, transform; sum; ReLU; num_batches_tracked) and 3 + 1 + 1
backward, because bfloat16 batch norm never uses cuDNN.

The inputs of ``students`` networks are concatenated: x is ``(students * rows, C)``, parameters are
``(students, C)``. So one launch can serve one student or all students of an array.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # elements that a program holds at a time
PROGRAMS = 256  # programs that share the rows of a student; their readers merge the partial sums


@triton.jit
def _statistics(x, shift, part, rows, P: tl.constexpr, C: tl.constexpr, BM: tl.constexpr):
    p, k = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, C)
    by = tl.load(shift + k * C + c)
    s = tl.zeros([BM, C], tl.float32)
    q = tl.zeros([BM, C], tl.float32)
    for start in range(p * BM, rows, P * BM):
        r = start + tl.arange(0, BM)
        inside = (r < rows)[:, None]
        at = (k * rows + r).to(tl.int64)[:, None] * C + c[None, :]
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        v = tl.where(inside, v - by[None, :], 0.0)
        s += v
        q += v * v
    to = part + (k * P + p) * 2 * C + c
    tl.store(to, tl.sum(s, 0))
    tl.store(to + C, tl.sum(q, 0))


@triton.jit
def _forward(
    x,
    other,
    y,
    part,
    shift,
    mean,
    var,
    w,
    b,
    save,
    rows,
    momentum,
    eps,
    P: tl.constexpr,
    C: tl.constexpr,
    BM: tl.constexpr,
    ADD: tl.constexpr,
    RELU: tl.constexpr,
):
    p, k = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, C)
    i = tl.arange(0, P)
    merged = part + (k * P + i)[:, None] * 2 * C + c[None, :]
    d = tl.sum(tl.load(merged), 0) / rows
    v = tl.maximum(tl.sum(tl.load(merged + C), 0) / rows - d * d, 0.0)
    m = tl.load(shift + k * C + c) + d
    rstd = 1 / tl.sqrt(v + eps)
    if p == 0:
        tl.store(save + k * 2 * C + c, m)
        tl.store(save + k * 2 * C + C + c, rstd)
        old = tl.load(mean + k * C + c)
        tl.store(mean + k * C + c, old + momentum * (m - old))
        old = tl.load(var + k * C + c)
        tl.store(var + k * C + c, old + momentum * (v * (rows / (rows - 1)) - old))
    scale = tl.load(w + k * C + c) * rstd
    offset = tl.load(b + k * C + c) - m * scale
    for start in range(p * BM, rows, P * BM):
        r = start + tl.arange(0, BM)
        inside = (r < rows)[:, None]
        at = (k * rows + r).to(tl.int64)[:, None] * C + c[None, :]
        z = (
            tl.load(x + at, mask=inside, other=0.0).to(tl.float32) * scale[None, :]
            + offset[None, :]
        )
        if ADD:
            z += tl.load(other + at, mask=inside, other=0.0).to(tl.float32)
        if RELU:
            z = tl.maximum(z, 0.0)
        tl.store(y + at, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _masked(dy, y, at, inside, RELU: tl.constexpr):
    g = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        g = tl.where(tl.load(y + at, mask=inside, other=0.0).to(tl.float32) > 0, g, 0.0)
    return g


@triton.jit
def _reduce(
    dy,
    x,
    y,
    save,
    part,
    rows,
    P: tl.constexpr,
    C: tl.constexpr,
    BM: tl.constexpr,
    RELU: tl.constexpr,
):
    p, k = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, C)
    m, rstd = tl.load(save + k * 2 * C + c), tl.load(save + k * 2 * C + C + c)
    s = tl.zeros([BM, C], tl.float32)
    q = tl.zeros([BM, C], tl.float32)
    for start in range(p * BM, rows, P * BM):
        r = start + tl.arange(0, BM)
        inside = (r < rows)[:, None]
        at = (k * rows + r).to(tl.int64)[:, None] * C + c[None, :]
        g = _masked(dy, y, at, inside, RELU)
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        s += g
        q += g * (v - m[None, :]) * rstd[None, :]
    to = part + (k * P + p) * 2 * C + c
    tl.store(to, tl.sum(s, 0))
    tl.store(to + C, tl.sum(q, 0))


@triton.jit
def _backward(
    dy,
    x,
    y,
    save,
    part,
    w,
    dx,
    dother,
    dw,
    db,
    rows,
    P: tl.constexpr,
    C: tl.constexpr,
    BM: tl.constexpr,
    ADD: tl.constexpr,
    RELU: tl.constexpr,
):
    p, k = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, C)
    i = tl.arange(0, P)
    merged = part + (k * P + i)[:, None] * 2 * C + c[None, :]
    s = tl.sum(tl.load(merged), 0)
    q = tl.sum(tl.load(merged + C), 0)
    if p == 0:
        tl.store(db + k * C + c, s)
        tl.store(dw + k * C + c, q)
    m, rstd = tl.load(save + k * 2 * C + c), tl.load(save + k * 2 * C + C + c)
    scale = tl.load(w + k * C + c) * rstd
    s, q = s / rows, q / rows
    for start in range(p * BM, rows, P * BM):
        r = start + tl.arange(0, BM)
        inside = (r < rows)[:, None]
        at = (k * rows + r).to(tl.int64)[:, None] * C + c[None, :]
        g = _masked(dy, y, at, inside, RELU)
        v = (tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - m[None, :]) * rstd[None, :]
        if ADD:
            tl.store(dother + at, g.to(dother.dtype.element_ty), mask=inside)
        d = scale[None, :] * (g - s[None, :] - v * q[None, :])
        tl.store(dx + at, d.to(dx.dtype.element_ty), mask=inside)


def _grid(rows: int, channels: int) -> tuple[int, int]:
    block = max(1, TILE // channels)
    programs = 1 << (max(1, min(PROGRAMS, -(-rows // block))) - 1).bit_length()
    return programs, block


class FusedNorm(torch.autograd.Function):
    """Batch norm, sum and ReLU of ``students`` networks, ``relu(batch_norm(x) + other)``.

    x: ``(students * batch, C, h, w)``, channels last; C a power of two. Running mean and variance
    change in place; the caller updates ``num_batches_tracked``.
    """

    @staticmethod
    def forward(ctx, x, other, w, b, mean, var, students, relu, momentum, eps):
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert other is None or other.is_contiguous(memory_format=torch.channels_last)
        C = x.shape[1]
        rows = x.numel() // C // students
        programs, block = _grid(rows, C)
        part = torch.empty(students, programs, 2, C, device=x.device, dtype=torch.float32)
        save = torch.empty(students, 2, C, device=x.device, dtype=torch.float32)
        # Sums are of distances from a guess of the mean, or they would cancel. The running mean
        # changes while others read it, so the guess is a copy (C floats; a kernel that a real
        # version would spare by having the first one write it).
        shift = mean.clone()
        y = torch.empty_like(x)
        grid = programs, students
        options = {"P": programs, "C": C, "BM": block, "num_warps": 8}
        _statistics[grid](x, shift, part, rows, **options)
        _forward[grid](
            x,
            x if other is None else other,
            y,
            part,
            shift,
            mean,
            var,
            w,
            b,
            save,
            rows,
            momentum,
            eps,
            ADD=other is not None,
            RELU=relu,
            **options,
        )
        ctx.save_for_backward(x, y if relu else None, w, save)
        ctx.what = students, relu, other is not None
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        x, y, w, save = ctx.saved_tensors
        students, relu, adds = ctx.what
        dy = dy.contiguous(memory_format=torch.channels_last)
        C = x.shape[1]
        rows = x.numel() // C // students
        programs, block = _grid(rows, C)
        part = torch.empty(students, programs, 2, C, device=x.device, dtype=torch.float32)
        dx = torch.empty_like(x)
        dother = torch.empty_like(x) if adds else None
        dw, db = torch.empty_like(w), torch.empty_like(w)
        grid = programs, students
        options = {"P": programs, "C": C, "BM": block, "num_warps": 8}
        _reduce[grid](dy, x, x if y is None else y, save, part, rows, RELU=relu, **options)
        _backward[grid](
            dy,
            x,
            x if y is None else y,
            save,
            part,
            w,
            dx,
            dx if dother is None else dother,
            dw,
            db,
            rows,
            ADD=adds,
            RELU=relu,
            **options,
        )
        return dx, dother, dw, db, None, None, None, None, None, None


def norm(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    other: Tensor | None = None,
    relu: bool = True,
    students: int = 1,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """See ``FusedNorm``."""
    return FusedNorm.apply(x, other, w, b, mean, var, students, relu, momentum, eps)


def _check() -> None:
    """Check against PyTorch in float32 arithmetic, with one student and several."""
    import itertools

    from torch.nn import functional as F

    device = "cuda" if torch.cuda.is_available() else "cpu"
    small = device == "cpu"
    torch.manual_seed(0)
    for C, side, students, adds, relu in itertools.product(
        (16, 64), (8,) if small else (8, 32), (1, 3), (False, True), (False, True)
    ):
        batch = 5 if small else 128
        shape = students * batch, C, side, side
        dtype = torch.bfloat16
        make = lambda: (  # noqa: E731
            (torch.randn(shape, device=device) * 2 + 3)
            .to(dtype)
            .to(memory_format=torch.channels_last)
        )
        x, other, dy = make().requires_grad_(), make().requires_grad_(), make() - 3
        w = (torch.rand(students, C, device=device) + 0.5).requires_grad_()
        b = torch.randn(students, C, device=device, requires_grad=True)
        mean, var = torch.randn(students, C, device=device), torch.rand(students, C, device=device)
        own = [mean.clone(), var.clone()]
        y = norm(x, w, b, *own, other=other if adds else None, relu=relu, students=students)
        y.backward(dy)
        found = [y.detach(), x.grad, w.grad, b.grad, *own] + ([other.grad] if adds else [])
        x2, o2, w2, b2 = (t.detach().double().requires_grad_() for t in (x, other, w, b))
        ref_mean, ref_var = mean.double(), var.double()
        parts = [
            F.batch_norm(xs, ref_mean[k], ref_var[k], w2[k], b2[k], True, 0.1, 1e-5)
            for k, xs in enumerate(x2.chunk(students))
        ]
        z = torch.cat(parts) + (o2 if adds else 0)
        # ReLU's mask is that of float32: a z of 1e-8 may be on either side of zero.
        z.backward(dy.double() * (y > 0) if relu else dy.double())
        z = z.relu() if relu else z
        wanted = [z.detach(), x2.grad, w2.grad, b2.grad, ref_mean, ref_var] + (
            [o2.grad] if adds else []
        )
        errors = [
            float((a.double() - e).norm() / e.norm().clamp_min(1e-9)) for a, e in zip(found, wanted)
        ]
        assert max(errors) < 1e-2, errors
        assert max(errors[4:6]) < 1e-4, (
            C,
            side,
            students,
            adds,
            relu,
            errors,
        )
    print("fused norm agrees with float64", f"(last errors {max(errors):.1e})")


if __name__ == "__main__":
    _check()
