"""One training loop: batches made on the device, a schedule sized to the run.

Shapes: N images, H x W pixels, C channels, K classes. Pixels stay uint8 until a batch needs them.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.data.types import ImageDataset, Images
from nas.model import ResNet

# Images per evaluation batch: a CPU is fastest while a batch's maps stay in its cache.
_EVALUATION_BATCH = {"cpu": 64, "cuda": 1024}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One recipe: everything that decides a run besides the design, the data and the seed.

    Raises:
        ValueError: a value is out of its range.
    """

    epochs: int
    batch_size: int
    lr: float  # at the peak; for the mean loss of a batch
    momentum: float = 0.9  # Nesterov
    weight_decay: float = 5e-4  # of weights; norms and biases have none
    warmup: float = 0.2  # share of the steps until the peak
    label_smoothing: float = 0.1
    crop_padding: int = 2  # pixels of reflection around an image to cut from; 0: no crop
    horizontal_flip: bool = False
    ema: float | None = None  # decay per step of averaged weights, which are then what is judged
    zero_last_gamma: bool = False  # see nas.model.build

    def __post_init__(self) -> None:
        checks: tuple[tuple[str, bool, str], ...] = (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("lr", 0 < self.lr < math.inf, "above 0"),
            ("momentum", 0 <= self.momentum < 1, "in 0..1, below 1"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0"),
            ("warmup", 0 <= self.warmup < 1, "in 0..1, below 1"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in 0..1, below 1"),
            ("crop_padding", self.crop_padding >= 0, "at least 0"),
            ("ema", self.ema is None or 0 < self.ema < 1, "between 0 and 1"),
        )
        for name, valid, expected in checks:
            if not valid:
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)}")

    def to_dict(self) -> dict[str, object]:
        """The recipe as a study records it."""
        return dataclasses.asdict(self)


def default_config(dataset: ImageDataset, epochs: int | None = None) -> TrainingConfig:
    """The recipe of short search runs, sized to the dataset.

    10 epochs: in batches of 512 from 10,000 images on, below in batches of 64, so that a run still
    has a few hundred steps. The crop moves an image by a sixteenth of its size.
    """
    side = min(dataset.input.height, dataset.input.width)
    large = len(dataset.train) >= 10_000
    return TrainingConfig(
        epochs=epochs or 10,
        batch_size=512 if large else 64,
        lr=0.4 if large else 0.2,
        crop_padding=min(max(1, side // 16), side - 1),
        horizontal_flip=dataset.horizontal_flip,
    )


class Ending(StrEnum):
    """Why a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"  # by `on_epoch`
    DIVERGED = "diverged"  # a loss was not finite


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a network does on a set of images."""

    loss: float  # mean cross-entropy, natural logarithm
    accuracy: float  # 0..1


@dataclass(frozen=True, slots=True)
class EpochResult:
    """One epoch of a run."""

    epoch: int  # from 1
    train_loss: float  # mean over the epoch's batches, with label smoothing
    val_loss: float
    val_accuracy: float  # 0..1
    seconds: float  # training and validation
    images_per_second: float  # training images over the training part of `seconds`


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A run, to its end or to where it stopped."""

    ending: Ending
    epochs: tuple[EpochResult, ...]
    seconds: float
    reason: str | None = None  # of a run that diverged

    @property
    def val_accuracy(self) -> float | None:
        """Accuracy after the last epoch, 0..1; None when no epoch came to its end."""
        return self.epochs[-1].val_accuracy if self.epochs else None

    @property
    def images_per_second(self) -> float | None:
        """Training images per second over all epochs; None when no epoch came to its end."""
        if not self.epochs:
            return None
        return len(self.epochs) / sum(1 / epoch.images_per_second for epoch in self.epochs)


OnEpoch = Callable[[EpochResult], bool]


def train(
    model: ResNet,
    dataset: ImageDataset,
    config: TrainingConfig,
    *,
    seed: int,
    device: torch.device,
    on_epoch: OnEpoch = lambda result: False,
) -> TrainingResult:
    """Trains the model in place and judges it on the validation part after every epoch.

    Args:
        model: the network; moved to the device. With `config.ema` it ends with averaged weights.
        dataset: resident on the device.
        config: the recipe.
        seed: of the order of images and of their augmentation.
        device: where to train; on CUDA in bfloat16 with norms in float32.
        on_epoch: called after every epoch; True stops the run.

    Returns:
        The run. A loss that is not finite ends it as `Ending.DIVERGED`.
    """
    started = time.perf_counter()
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = torch.Generator(device=device).manual_seed(seed)
    batches = TrainBatches(dataset, config, generator)
    steps = config.epochs * batches.per_epoch
    optimizer = _optimizer(model, config, device)
    averaged = _AveragedWeights(model, config.ema) if config.ema else None
    judged = averaged.model if averaged else model
    epochs: list[EpochResult] = []
    ending, reason = Ending.FINISHED, None
    step = 0
    for epoch in range(1, config.epochs + 1):
        epoch_started = time.perf_counter()
        model.train()
        loss_sum = torch.zeros((), device=device)
        for images_NCHW, labels_N in batches:
            for group in optimizer.param_groups:
                group["lr"] = config.lr * schedule(step, steps, config.warmup)
            with _autocast(device):
                logits_NK = model(images_NCHW)
                loss = F.cross_entropy(
                    logits_NK.float(), labels_N, label_smoothing=config.label_smoothing
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if averaged:
                averaged.update(model)
            loss_sum += loss.detach()
            step += 1
        train_loss = (loss_sum / batches.per_epoch).item()  # the only wait for the device
        train_seconds = time.perf_counter() - epoch_started
        validation = evaluate(judged, dataset.validation, dataset)
        if not math.isfinite(train_loss) or not math.isfinite(validation.loss):
            ending = Ending.DIVERGED
            reason = (
                f"loss not finite in epoch {epoch}: "
                f"train {train_loss:.3g}, validation {validation.loss:.3g}"
            )
            break
        result = EpochResult(
            epoch=epoch,
            train_loss=train_loss,
            val_loss=validation.loss,
            val_accuracy=validation.accuracy,
            seconds=time.perf_counter() - epoch_started,
            images_per_second=batches.per_epoch * batches.batch_size / train_seconds,
        )
        epochs.append(result)
        if on_epoch(result) and epoch < config.epochs:
            ending = Ending.STOPPED
            break
    if averaged:
        model.load_state_dict(averaged.model.state_dict())
    return TrainingResult(ending, tuple(epochs), time.perf_counter() - started, reason)


def evaluate(model: nn.Module, images: Images, dataset: ImageDataset) -> Evaluation:
    """Loss and accuracy of the model on images, normalized as the dataset's training part is."""
    device = images.pixels_NCHW.device
    batch_size = _EVALUATION_BATCH.get(device.type, 256)
    normalize = _Normalize(dataset, device)
    model.eval()
    loss = torch.zeros((), device=device)
    correct = torch.zeros((), device=device)
    with torch.inference_mode(), _autocast(device):
        for pixels_NCHW, labels_N in zip(
            torch.split(images.pixels_NCHW, batch_size),
            torch.split(images.labels_N, batch_size),
            strict=True,
        ):
            logits_NK = model(normalize(pixels_NCHW.permute(0, 2, 3, 1))).float()
            loss += F.cross_entropy(logits_NK, labels_N, reduction="sum")
            correct += (logits_NK.argmax(dim=1) == labels_N).sum()
    return Evaluation((loss / len(images)).item(), (correct / len(images)).item())


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: straight up for `warmup`, straight down to 0.

    The triangle of Smith and Topin 2018 (arXiv:1708.07120) without its tail; the last step still
    moves.
    """
    peak = warmup * steps
    if step < peak:
        return (step + 1) / (math.floor(peak) + 1)
    return (steps - step) / (steps - peak)


class _Normalize:
    """Pixels (N, H, W, C) uint8 -> (N, C, H, W) float32 in channels_last memory."""

    def __init__(self, dataset: ImageDataset, device: torch.device) -> None:
        self._scale = 1 / (255 * torch.tensor(dataset.std, device=device))
        self._shift = torch.tensor(dataset.mean, device=device) / torch.tensor(
            dataset.std, device=device
        )

    def __call__(self, pixels_NHWC: Tensor) -> Tensor:
        return (pixels_NHWC.float() * self._scale - self._shift).permute(0, 3, 1, 2)


class TrainBatches:
    """An epoch a walk: every image at most once, in a new order; what fills no batch is left out.

    Shuffle, crop and flip are one gather from the reflected images.
    """

    def __init__(
        self, dataset: ImageDataset, config: TrainingConfig, generator: torch.Generator
    ) -> None:
        images = dataset.train
        self._labels_N = images.labels_N
        self._generator = generator
        self._device = images.pixels_NCHW.device
        self._normalize = _Normalize(dataset, self._device)
        self._padding = config.crop_padding
        self._flip = config.horizontal_flip
        self._height, self._width = dataset.input.height, dataset.input.width
        self._pixels_NHWC = (
            reflected(images.pixels_NCHW, self._padding).permute(0, 2, 3, 1).contiguous()
        )
        self.batch_size = min(config.batch_size, len(images))
        self.per_epoch = len(images) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order_N = torch.randperm(
            len(self._labels_N), generator=self._generator, device=self._device
        )
        for step in range(self.per_epoch):
            chosen_N = order_N[step * self.batch_size : (step + 1) * self.batch_size]
            pixels_NHWC = self._pixels_NHWC[
                chosen_N[:, None, None],
                self._offsets(self._height)[:, :, None],
                self._offsets(self._width, flip=self._flip)[:, None, :],
            ]
            yield self._normalize(pixels_NHWC), self._labels_N[chosen_N]

    def _offsets(self, size: int, flip: bool = False) -> Tensor:
        """Per image of a batch: which rows (or columns) of the reflected image it takes."""
        line = torch.arange(size, device=self._device).expand(self.batch_size, size)
        if flip:
            flipped_N1 = self._random(2).bool()
            line = torch.where(flipped_N1, line.flip(1), line)
        return line + self._random(2 * self._padding + 1)

    def _random(self, high: int) -> Tensor:
        return torch.randint(
            high, (self.batch_size, 1), generator=self._generator, device=self._device
        )


def reflected(pixels_NCHW: Tensor, padding: int) -> Tensor:
    """The images with a border of their own reflection, (N, C, H + 2 padding, W + 2 padding)."""
    for dim in (2, 3):
        size = pixels_NCHW.shape[dim]
        line = torch.arange(-padding, size + padding, device=pixels_NCHW.device).abs()
        line = torch.where(line >= size, 2 * (size - 1) - line, line)
        pixels_NCHW = pixels_NCHW.index_select(dim, line)
    return pixels_NCHW


class _AveragedWeights:
    """Exponential moving average of weights and norm statistics, after every step."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay
        self._updates = 0

    def update(self, model: nn.Module) -> None:
        self._updates += 1
        # The first steps average over what there is, so that fresh weights are soon forgotten.
        decay = min(self._decay, self._updates / (self._updates + 9))
        with torch.no_grad():
            for mean, value in zip(
                self.model.state_dict().values(), model.state_dict().values(), strict=True
            ):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)


def _optimizer(
    model: nn.Module, config: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]  # norms and biases
    return torch.optim.SGD(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        fused=device.type == "cuda" or None,
    )


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
