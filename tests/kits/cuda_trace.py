"""What a run does on a CUDA device, traced without one: fake tensors have no values to read."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
COPIES = (_aten._to_copy.default, _aten.copy_.default, _aten._pin_memory.default)


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that start a kernel, notes copies between devices and shapes.

    A view starts none. An operation on a list of tensors, as optimizers have them, counts as one.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: Counter[str] = Counter()
        self.copies: list[str] = []
        self.convolutions: set[tuple[object, ...]] = set()
        self.inputs: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        fused = "_fused_" in str(function)  # an optimizer's, for which torch has no fake
        results = None if fused else function(*args, **kwargs)
        if function.namespace != "aten":
            return results
        name = function._schema.name.removeprefix("aten::")
        tensors = [t for t in tree_leaves((args, kwargs, results)) if isinstance(t, Tensor)]
        devices = {t.device.type for t in tensors if t.dim() > 0 or function in COPIES}
        if function in COPIES and len(devices) > 1:
            self.copies.append(f"{name} {[(tuple(t.shape), str(t.device)) for t in tensors]}")
        returns = function._schema.returns
        view = returns and all(r.alias_info and not r.alias_info.is_write for r in returns)
        if not view and not name.startswith(("empty", "detach")):
            self.kernels[name] += 1
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        self.inputs.setdefault(name, set()).update(t.dtype for t in given)
        if name in ("convolution", "conv2d"):
            images, weights, _, stride = args[:4]
            shape = (*images.shape, *weights.shape, tuple(stride), images.dtype)
            self.convolutions.add(shape)
        return results

    @property
    def total(self) -> int:
        """Kernels in all."""
        return sum(self.kernels.values())


def _from_host(values: Any, *, device: torch.device, dtype: Any = None) -> Tensor:
    """`torch.tensor` of values for a device: a copy from the host, of which a trace hears."""
    on_host = torch.empty(np.shape(values), dtype=dtype or torch.float32)
    return on_host.to(device)


class _Mode(FakeTensorMode):  # type: ignore[no-untyped-call]
    def __deepcopy__(self, memo: object) -> "_Mode":
        return self  # of the copy of a network, too


class _Generator(torch.Generator):
    """One on the CPU, which fake tensors of any device take."""

    def __new__(cls, device: object = None) -> "_Generator":
        return super().__new__(cls)


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A block in which `cuda:0` is there for fake tensors, and reading a value raises."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)
    monkeypatch.setattr(torch, "Generator", _Generator)
    monkeypatch.setattr(torch, "tensor", _from_host)
    with _Mode():
        yield torch.device("cuda", 0)


def place(model: nn.Module, device: torch.device) -> None:
    """Gives a network memory on a fake device, where torch cannot move one."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                order = torch.channels_last if parameter.dim() == 4 else torch.contiguous_format
                memory = torch.empty(parameter.shape, device=device, memory_format=order)
                module._parameters[name] = nn.Parameter(memory)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)
    model.to = lambda **where: model  # type: ignore[method-assign, assignment]
