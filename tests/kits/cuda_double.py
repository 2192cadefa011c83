"""A strict double of CUDA graphs on the CPU, for `nas.training.graphs.CudaGraphs` to use.

While it records, a step's operations are run, so that the host's code has results to go on with,
but all they wrote is undone afterwards: a capture executes nothing. What would make the host wait
for the device is refused. A replay runs each operation again with the tensors and the Python
numbers it had, and writes its results into the memory of the recorded ones.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas.training import graphs

_aten = torch.ops.aten
HOST_READS = (
    _aten._local_scalar_dense.default,
    _aten.is_nonzero.default,
    _aten.nonzero.default,
    _aten.equal.default,
    _aten.masked_select.default,
    _aten._unique2.default,
)
GIGABYTE = 10**9


class Graph:
    """Stands for `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for function, arguments, options, results in self.operations:
                again = function(*arguments, **options)
                own = function._schema.returns
                pairs = zip(_each(results, len(own)), _each(again, len(own)), own, strict=True)
                for old, new, declared in pairs:
                    if declared.alias_info is None:  # else it is a view, or was changed in place
                        for o, n in zip(tree_leaves(old), tree_leaves(new), strict=True):
                            if isinstance(o, Tensor):
                                o.copy_(n)


def _takes_by_mask(function: Any, args: Any) -> bool:
    """How many values a mask takes is known once the host has read it."""
    indexing = function in (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default)
    return indexing and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])


def _each(results: Any, count: int) -> Sequence[Any]:
    return results if count > 1 else (results,) * count


class _Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, graph: Graph) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = graph
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in HOST_READS or _takes_by_mask(function, args):
            raise RuntimeError(f"operation not permitted when stream is capturing: {function}")
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._before.setdefault(storage._cdata, (storage, _copy(storage)))
        results = function(*args, **kwargs)
        if function.namespace == "aten":
            self._graph.operations.append((function, args, kwargs, results))
        return results

    def undo(self) -> None:
        for storage, before in self._before.values():
            storage.copy_(before)


def _copy(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    copy: torch.UntypedStorage = storage.clone()  # type: ignore[no-untyped-call]
    return copy


class Stream:
    """Stands for `torch.cuda.Stream`."""

    def __init__(self, device: object = None) -> None:
        self.waited_for: list[Stream] = []

    def wait_stream(self, other: "Stream") -> None:
        self.waited_for.append(other)


class CudaDouble:
    """What `torch.cuda` is for `CudaGraphs`, in a test.

    Attributes:
        current: the stream that is current.
        free: bytes of memory that are free.
        peak: bytes that a step takes.
        at_end: an error to raise when a capture ends.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.default = self.current = Stream()
        self.graphs: list[Graph] = []
        self.free, self.peak = GIGABYTE, GIGABYTE // 10
        self.at_end: Exception | None = None
        monkeypatch.setattr(graphs, "_given_up", [])
        for name, double in (
            ("Stream", Stream),
            ("CUDAGraph", self._new_graph),
            ("graph", self._capture),
            ("stream", self._stream),
            ("current_stream", lambda device=None: self.current),
            ("set_stream", self._set_stream),
            ("get_device_name", lambda device=None: "double"),
            ("synchronize", lambda device=None: None),
            ("memory_allocated", lambda device=None: 0),
            ("memory_reserved", lambda device=None: 0),
            ("reset_peak_memory_stats", lambda device=None: None),
            ("max_memory_allocated", lambda device=None: self.peak),
            ("mem_get_info", lambda device=None: (self.free, 80 * GIGABYTE)),
        ):
            monkeypatch.setattr(torch.cuda, name, double)

    def _new_graph(self) -> Graph:
        self.graphs.append(Graph())
        return self.graphs[-1]

    def _set_stream(self, stream: Stream) -> None:
        self.current = stream

    @contextmanager
    def _stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextmanager
    def _capture(self, graph: Graph, stream: Stream) -> Iterator[None]:
        """As torch's: a capture that fails at its end leaves its own stream current."""
        before = self.current
        self.current = Stream()  # torch's is `stream`; another one here, which must not stay
        assert stream is before, "what runs before a capture must be on the stream of the capture"
        recording = _Recording(graph)
        failed = False
        try:
            with recording:
                yield
        except Exception:
            failed = True
            raise
        finally:
            recording.undo()
            if failed or self.at_end is not None:
                graph.operations.clear()
        if self.at_end is not None:
            raise self.at_end
        self.current = before


def record(step: Callable[[], object]) -> Graph:
    """The graph of a step, recorded by the double alone."""
    graph = Graph()
    recording = _Recording(graph)
    with recording:
        step()
    recording.undo()
    return graph
