"""The network of a design, as a torch module.

Shapes: N images, C channels, H x W pixels, K classes.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.architecture import STEM_KERNEL, Architecture, ImageInput, head_size

FusedNorm = Callable[..., Tensor]
"""`nas.training.fused_norms.fused_norm`: batch norm in training, addition and ReLU at once."""


class BatchNorm(nn.BatchNorm2d):
    """Batch norm and what follows it in a residual network: an addition and a ReLU.

    Leaves `num_batches_tracked` at 0: torch counts in every forward pass, a kernel for each norm,
    and what is counted decides nothing.
    """

    running_mean: Tensor
    running_var: Tensor
    momentum: float  # None would mean an average over all batches, by the count
    fused: FusedNorm | None = None  # how whoever trains wants all of it computed at once

    def forward(
        self, x_NCHW: Tensor, added_NCHW: Tensor | None = None, *, relu: bool = False
    ) -> Tensor:
        """The normalized maps, with `added_NCHW`, behind a ReLU."""
        moved = (self.running_mean, self.running_var)
        if self.training and self.fused is not None:
            return self.fused(
                x_NCHW,
                self.weight,
                self.bias,
                *moved,
                added_NCHW=added_NCHW,
                relu=relu,
                momentum=self.momentum,
                eps=self.eps,
            )
        out = F.batch_norm(
            x_NCHW, *moved, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        if added_NCHW is not None:
            out = out + added_NCHW
        return F.relu(out, inplace=True) if relu else out


class StridedPointwiseConv(nn.Conv2d):
    """A 1 x 1 convolution with a stride, as one without on the pixels that count.

    On a CPU oneDNN's own backward pass of such a convolution writes beyond its memory, and gives
    wrong gradients, where an image has fewer channels than a vector has numbers
    (uxlfoundation/oneDNN#6035; seen with AVX2, torch 2.14.1, in channels_last memory).
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The maps, (N, outputs, H / stride, W / stride)."""
        rows, columns = self.stride
        return F.conv2d(x_NCHW[:, :, ::rows, ::columns], self.weight, self.bias)


_VECTOR = 16  # float32 numbers of AVX-512


class ConvNorm(nn.Sequential):
    """Convolution that keeps the size up to its stride, then batch norm if `norm`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        bias: bool = False,
        norm: bool = True,
    ) -> None:
        super().__init__()
        pointwise = kernel == 1 and stride > 1 and inputs < _VECTOR
        kind = StridedPointwiseConv if pointwise else nn.Conv2d
        self.conv = kind(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
        self.norm = BatchNorm(outputs) if norm else None

    def forward(self, x_NCHW: Tensor, *, relu: bool = False) -> Tensor:
        """The maps, (N, outputs, H / stride, W / stride), behind a ReLU if wanted."""
        out: Tensor = self.conv(x_NCHW)
        if self.norm is not None:
            return self.norm(out, relu=relu)  # type: ignore[no-any-return]
        return F.relu(out, inplace=True) if relu else out


class BasicBlock(nn.Module):
    """ReLU(shortcut(x) + BN(conv(ReLU(BN(conv(x)))))), as in He et al. 2016, figure 2."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int, shortcut: nn.Module
    ) -> None:
        super().__init__()
        padding = kernel // 2
        self.conv1 = nn.Conv2d(inputs, outputs, kernel, stride, padding=padding, bias=False)
        self.norm1 = BatchNorm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel, 1, padding=padding, bias=False)
        self.norm2 = BatchNorm(outputs)
        self.shortcut = shortcut

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The block's maps, (N, outputs, H / stride, W / stride)."""
        out = self.norm1(self.conv1(x_NCHW), relu=True)
        out = self.conv2(out)
        maps: Tensor = self.norm2(out, self.shortcut(x_NCHW), relu=True)
        return maps


class ResNet(nn.Module):
    """The residual network of an `Architecture`; see that module for the formula."""

    def __init__(self, architecture: Architecture, input: ImageInput) -> None:
        super().__init__()
        a = architecture
        head_height, head_width = head_size(a, input)
        self.architecture = a
        self.input = input
        self.stem = ConvNorm(
            input.channels, a.stem_channels, kernel=STEM_KERNEL, stride=1, bias=a.stem_bias
        )
        stages: list[nn.Module] = []
        inputs = a.stem_channels
        for i, outputs in enumerate(a.channels):
            blocks: list[nn.Module] = []
            for block in range(a.blocks[i]):
                stride = a.strides[i] if block == 0 else 1
                shortcut: nn.Module = nn.Identity()
                if block == 0 and a.projections[i]:
                    shortcut = ConvNorm(
                        inputs,
                        outputs,
                        kernel=a.shortcut_kernels[i],
                        stride=stride,
                        norm=a.shortcut_norm,
                    )
                blocks.append(
                    BasicBlock(
                        inputs, outputs, kernel=a.kernels[i], stride=stride, shortcut=shortcut
                    )
                )
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs * head_height * head_width, input.classes)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits, (N, K), of normalized images."""
        maps = self.stages(self.stem(images_NCHW, relu=True))
        pooled = F.avg_pool2d(maps, self.architecture.pool)
        logits_NK: Tensor = self.head(pooled.flatten(1))
        return logits_NK

    def norms(self) -> Iterator[BatchNorm]:
        """All norms."""
        return (module for module in self.modules() if isinstance(module, BatchNorm))

    def fuse_norms(self, fused: FusedNorm | None) -> None:
        """Computes all norms in training with this; None: with torch's kernels."""
        for norm in self.norms():
            norm.fused = fused

    def residual_blocks(self) -> Iterator[BasicBlock]:
        """All blocks in the order of the forward pass."""
        for module in self.modules():
            if isinstance(module, BasicBlock):
                yield module


def build(
    architecture: Architecture,
    input: ImageInput,
    *,
    generator: torch.Generator | None = None,
    zero_last_gamma: bool = False,
) -> ResNet:
    """The network of a design, on the CPU, with fresh weights.

    Convolutions get He initialisation, normal with fan-out (He et al. 2015, arXiv:1502.01852);
    the classifier torch's default for linear layers; norms scale 1 and shift 0.

    Args:
        architecture: the design.
        input: image shape and number of classes.
        generator: source of randomness; None takes torch's global one.
        zero_last_gamma: start every block as its shortcut, by zero scale in its last norm
            (Goyal et al. 2017, arXiv:1706.02677, section 5.1).

    Raises:
        ValueError: the pool is larger than the last map.
    """
    with torch.device("meta"):  # weights are drawn once, below
        model = ResNet(architecture, input)
    model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    if zero_last_gamma:
        for block in model.residual_blocks():
            nn.init.zeros_(block.norm2.weight)
    return model
