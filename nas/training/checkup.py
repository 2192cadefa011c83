"""Whether a device trains as it should, and how fast: checks of half a minute on a GPU.

Each trains a network of random weights on random images, which show everything but learning.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from nas.architecture import PRESETS, Architecture, ImageInput
from nas.counting import count_mult_adds
from nas.data.types import ImageDataset, Images
from nas.model import ResNet, build
from nas.runtime.arithmetic import arithmetic, has_bfloat16
from nas.runtime.devices import free_memory, is_out_of_memory
from nas.runtime.precision import Precision
from nas.training.backend import Backend, backend_for, fused_norm_on
from nas.training.batches import TrainBatches
from nas.training.checkpoint import load_checkpoint, save_checkpoint
from nas.training.config import TrainingConfig, fast
from nas.training.loop import Run, task_of

_INPUT = ImageInput(channels=3, height=32, width=32, classes=10)
_SMALL = Architecture(
    blocks=(1, 1, 1), channels=(16, 32, 64), kernels=(3,) * 3, shortcut_kernels=(1,) * 3, pool=8
)
_ODD = Architecture(  # of which no other design has a shape
    blocks=(2, 2, 2), channels=(40, 88, 168), kernels=(3,) * 3, shortcut_kernels=(1,) * 3, pool=8
)
_COMPARED_STEPS = 8
_TIMED_STEPS = 40
_MATRIX = 8192  # rows and columns of the product that a device is held to


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of one batch before any training, on the CPU and on the device."""

    cpu: float  # float32
    float32: float
    bfloat16: float | None  # where the device has it

    @property
    def agree(self) -> bool:
        """Whether they differ by no more than rounding."""
        half = self.bfloat16 is None or abs(self.bfloat16 - self.cpu) < 0.05
        return abs(self.float32 - self.cpu) < 1e-3 and half


@dataclass(frozen=True, slots=True)
class Compared:
    """A faster way to train, beside torch's plain one."""

    reason: str | None  # why the faster way is not taken
    difference: float = 0.0  # of the weights, as a share of how far the plain steps moved them
    rate: float = 0.0  # images/s
    plain_rate: float = 0.0

    @property
    def agree(self) -> bool:
        """Whether both train the same network, up to the order of sums."""
        return self.difference < 0.1

    @property
    def gain(self) -> float:
        """How many times as fast it is."""
        return self.rate / self.plain_rate


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a wide network trains."""

    images_per_second: float
    share: float  # of the multiplications per second of a matrix product in the same precision


def _backend_of(device: torch.device) -> Backend:
    """As if the device had never been tried."""
    return backend_for(device, heed_verdict=False)


class Checkup:
    """Checks of a device.

    Args:
        device: opened with `nas.runtime.devices.open_device`.
        batch_size: images of a step.
        backend_of: how runs use the device.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        batch_size: int = 512,
        backend_of: Callable[[torch.device], Backend] = _backend_of,
    ) -> None:
        self._device = device
        self._batch_size = batch_size
        self._backend_of = backend_of
        self._bfloat16 = has_bfloat16(device)
        self._best = Precision.BFLOAT16 if self._bfloat16 else Precision.FLOAT32

    def losses(self) -> Losses:
        """The first loss of a small network, in every precision."""

        def loss(device: torch.device, precision: Precision) -> float:
            dataset = _images(self._batch_size).to(device)
            config = self._config(dataset, precision)
            model = _model(_SMALL).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            images_NCHW = TrainBatches(dataset, config, seed=0).normalize(dataset.train.pixels_NHWC)
            with torch.no_grad(), arithmetic(device, precision):
                logits_NK = model.train()(images_NCHW)
            return F.cross_entropy(logits_NK.float(), dataset.train.labels_N).item()

        return Losses(
            loss(torch.device("cpu"), Precision.FLOAT32),
            loss(self._device, Precision.FLOAT32),
            loss(self._device, Precision.BFLOAT16) if self._bfloat16 else None,
        )

    def captured(self, design: Architecture = PRESETS["resnet20"]) -> Compared:
        """Whether captured steps train as plain ones do, and how much faster."""
        backend = self._backend_of(self._device)
        start = _weights(_model(design))
        plain_backend = dataclasses.replace(backend, graphs=None)
        captured, plain = (
            self._run(design, _COMPARED_STEPS, backend=b) for b in (backend, plain_backend)
        )
        for run in (captured, plain):
            run.train_epoch()
        difference = _apart(_weights(captured.model), _weights(plain.model), start)
        reason = None if captured.captured else captured.not_captured or "graphs are turned off"
        plain_rate = plain.train_epoch().images_per_second
        rate = captured.train_epoch().images_per_second
        return Compared(reason, difference, rate, plain_rate)

    def fused(self, design: Architecture = PRESETS["flexres22-2"]) -> Compared:
        """Whether fused norms train as torch's own do, and how much faster a wide network is."""
        fused = self._backend_of(self._device)
        if fused.fused_norm is None:
            return Compared(str(fused_norm_on(self._device)))
        plain = dataclasses.replace(self._backend_of(self._device), fused_norm=None)
        start = _weights(_model(_SMALL))
        ended = []
        rates = []
        for backend in (fused, plain):
            run = self._run(_SMALL, _COMPARED_STEPS, precision=Precision.FLOAT32, backend=backend)
            run.train_epoch()
            ended.append(_weights(run.model))
            run = self._run(design, _COMPARED_STEPS, backend=backend)
            run.train_epoch()
            rates.append(run.train_epoch().images_per_second)
        return Compared(None, _apart(ended[0], ended[1], start), *rates)

    def new_design(self) -> tuple[float, float]:
        """Seconds of the first steps of a design with shapes of its own, and of the same again."""
        seconds = []
        for _ in range(2):
            run = self._run(_ODD, _COMPARED_STEPS)
            started = time.perf_counter()
            run.train_epoch()  # waits for the device
            seconds.append(time.perf_counter() - started)
        return seconds[0], seconds[1]

    def rates(self) -> dict[Precision, float]:
        """Images/s in training, in each precision, whether the device has it or not."""
        # On a CPU few, since what it has no instructions for may be 500 times slower.
        steps = _TIMED_STEPS if self._device.type == "cuda" else 2
        rates = {}
        for precision in Precision:
            run = self._run(_SMALL, steps, precision=precision)
            run.train_epoch()  # warms up
            rates[precision] = run.train_epoch().images_per_second
        return rates

    def speed(self, design: Architecture = PRESETS["flexres22-2"]) -> Speed:
        """Images/s in training of a wide network, and what share of the possible that is."""
        run = self._run(design, _TIMED_STEPS)
        run.train_epoch()
        rate = run.train_epoch().images_per_second
        # Forward and backward pass: three times the multiply-accumulates of the forward pass.
        done = 3 * count_mult_adds(design, _INPUT) * rate
        return Speed(rate, done / self._multiplications_per_second())

    def memory(self) -> tuple[bool, int]:
        """Whether too large an allocation is known as such, and bytes that stay allocated."""
        free_memory(self._device)
        recognised = False
        try:
            torch.empty(1 << 50, dtype=torch.uint8, device=self._device)
        except Exception as error:
            recognised = is_out_of_memory(error)
        free_memory(self._device)
        left = torch.cuda.memory_allocated(self._device) if self._device.type == "cuda" else 0
        return recognised, left

    def continued(self) -> float:
        """How far a run that was stored, loaded and continued ends from one that went through.

        A share of how far the weights moved; 0 on a CPU.
        """
        start = _weights(_model(_SMALL))
        whole = self._run(_SMALL, _COMPARED_STEPS)
        first, second = (self._run(_SMALL, _COMPARED_STEPS) for _ in range(2))
        first.train_epoch()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.pt"
            save_checkpoint(path, first.state())
            second.load_state(load_checkpoint(path))
        second.train_epoch()
        for _ in range(2):
            whole.train_epoch()
        return _apart(_weights(second.model), _weights(whole.model), start)

    def _run(
        self,
        design: Architecture,
        steps: int,
        *,
        precision: Precision | None = None,
        backend: Backend | None = None,
    ) -> Run:
        dataset = _images(steps * self._batch_size).to(self._device)
        return Run(
            _model(design),
            dataset,
            self._config(dataset, precision or self._best),
            seed=0,
            device=self._device,
            backend=backend or self._backend_of(self._device),
        )

    def _config(self, dataset: ImageDataset, precision: Precision) -> TrainingConfig:
        return dataclasses.replace(
            fast(task_of(dataset, self._device)),
            epochs=4,
            batch_size=self._batch_size,
            lr=0.05,
            ema=None,
            precision=precision,
        )

    def _multiplications_per_second(self) -> float:
        """Multiply-accumulates per second of the best of a few matrix products."""
        dtype = torch.bfloat16 if self._bfloat16 else torch.float32
        matrix = torch.ones(_MATRIX, _MATRIX, dtype=dtype, device=self._device)
        best = float("inf")
        for _ in range(5):
            started = self._now()
            for _ in range(5):
                matrix @ matrix
            best = min(best, (self._now() - started) / 5)
        return _MATRIX**3 / best

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _model(design: Architecture) -> ResNet:
    return build(design, _INPUT, generator=torch.Generator().manual_seed(0))


def _weights(model: ResNet) -> torch.Tensor:
    """All weights in one line, on the CPU."""
    parameters: Sequence[torch.Tensor] = list(model.parameters())
    return torch.cat([p.detach().flatten().cpu() for p in parameters])


def _apart(ended: torch.Tensor, expected: torch.Tensor, start: torch.Tensor) -> float:
    """How far weights ended from others, as a share of how far those moved."""
    return float((ended - expected).norm() / (expected - start).norm())


def _images(count: int) -> ImageDataset:
    """Random images of CIFAR-10's shape."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> Images:
        shape = (count, _INPUT.height, _INPUT.width, _INPUT.channels)
        pixels_NHWC = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        return Images(pixels_NHWC, torch.arange(count) % _INPUT.classes)

    return ImageDataset(
        name="random",
        input=_INPUT,
        classes=tuple(f"class {i}" for i in range(_INPUT.classes)),
        train=images(count),
        validation=images(8),
        test_images=0,
        mean=(0.5,) * _INPUT.channels,
        std=(0.29,) * _INPUT.channels,
        horizontal_flip=True,
        digest="0" * 16,
        subset=1.0,
        split_seed=0,
    )
