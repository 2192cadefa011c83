r"""Would another kind of block make a small network better? Basic against inverted residual blocks.

nas searches over basic blocks: two full convolutions each. A network of 97,530 parameters that is
reported to reach 94.4% of CIFAR-10's test images has depthwise ones. This trains designs of both
kinds by the same recipe on the same images::

    python benchmarks/block_types.py --dataset cifar10 --data-dir data --epochs 10 \
        --basic B3,1,4:C16,32,24:K1,3,1:P8 --inverted B3,4,2:C24,40,64:P8

An inverted residual block (Sandler et al. 2018, arXiv:1801.04381) here: 1 x 1 convolution to
`--expansion` times the channels, 3 x 3 depthwise, 1 x 1 back, a norm behind each, ReLU behind the
first two, and the shortcut of the basic block added; F must be 3. Weights begin as He et al. 2015
say, the fan-out of a depthwise convolution being 9. Muon takes its weights as a matrix of channels
and pixels like any other, which may not suit them: compare by another optimizer, too, such as
`--variations fast fast/optimizer=nesterov/momentum=0.9/lr=0.1`.

Printed for each design and seed: parameters, mult-adds, validation accuracy after the last epoch,
and seconds. No test image is read.
"""

import argparse
import dataclasses
import itertools
import math
import sys
import time

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from machine import hardware
from nas.architecture import Architecture, ImageInput
from nas.model import BasicBlock, BatchNorm, ResNet, build
from nas.training.loop import Run
from nas.training.plan import RunPlan
from recipes import add_arguments, design, opened, variation


class InvertedBlock(nn.Module):
    """x through 1 x 1, depthwise 3 x 3 and 1 x 1 convolutions, plus its shortcut."""

    def __init__(self, like: BasicBlock, expansion: int) -> None:
        super().__init__()
        inputs, outputs = like.conv1.in_channels, like.conv1.out_channels
        inner = expansion * inputs
        self.expand = nn.Conv2d(inputs, inner, 1, bias=False)
        self.norm1 = BatchNorm(inner)
        self.depthwise = nn.Conv2d(
            inner, inner, 3, like.conv1.stride[0], padding=1, groups=inner, bias=False
        )
        self.norm2 = BatchNorm(inner)
        self.project = nn.Conv2d(inner, outputs, 1, bias=False)
        self.norm3 = BatchNorm(outputs)
        self.shortcut = like.shortcut

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The block's maps, (N, outputs, H / stride, W / stride)."""
        out = self.norm1(self.expand(x_NCHW), relu=True)
        out = self.norm2(self.depthwise(out), relu=True)
        maps: Tensor = self.norm3(self.project(out), self.shortcut(x_NCHW))
        return maps


def inverted(
    architecture: Architecture, input: ImageInput, expansion: int, generator: torch.Generator
) -> ResNet:
    """The design's network with every block replaced."""
    assert set(architecture.kernels) == {3}, f"F must be 3, got {architecture.kernels}"
    model = build(architecture, input, generator=generator)
    for stage in model.stages:
        assert isinstance(stage, nn.Sequential)
        for number, block in enumerate(stage):
            assert isinstance(block, BasicBlock)
            new = InvertedBlock(block, expansion)
            for conv in (new.expand, new.depthwise, new.project):
                fan_out = conv.weight[0, 0].numel() * conv.out_channels // conv.groups
                nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out), generator=generator)
            stage[number] = new
    return model


def mult_adds(model: nn.Module, input: ImageInput) -> int:
    """Of convolutions and linear layers, for one image."""
    image_NCHW = torch.zeros(1, input.channels, input.height, input.width)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(image_NCHW.to(next(model.parameters()).device))
    flops: int = counter.get_total_flops()
    return flops // 2


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    parser.add_argument("--basic", nargs="+", default=[])
    parser.add_argument("--inverted", nargs="+", default=[])
    parser.add_argument("--expansion", type=int, default=3)
    parser.add_argument("--variations", nargs="+", default=["fast"], help="as in recipes.py")
    parser.add_argument("--count", action="store_true", help="train nothing")
    options = parser.parse_args()
    device, precision, dataset = opened(options)
    print(hardware(device), f"torch {torch.__version__}", precision, flush=True)
    print("| blocks | design | recipe | seed | parameters | mult-adds | accuracy, % | seconds |")
    print("|---" * 8 + "|", flush=True)
    kinds = [("basic", name) for name in options.basic]
    kinds += [("inverted", name) for name in options.inverted]
    for seed, what, (kind, name) in itertools.product(
        range(options.seeds), options.variations, kinds
    ):
        config = dataclasses.replace(
            variation(what, dataset, device), epochs=options.epochs, precision=precision
        )
        if kind == "basic":
            plan = RunPlan(architecture=design(name), dataset=dataset, config=config, seed=seed)
            run = plan.begin(device)
        else:
            generator = torch.Generator().manual_seed(seed)
            model = inverted(design(name), dataset.input, options.expansion, generator)
            run = Run(model, dataset, config, seed=seed, device=device)
        size = sum(p.numel() for p in run.model.parameters())
        line = f"| {kind} | {name} | {what} | {seed} | {size:,} | "
        line += f"{mult_adds(run.model, dataset.input) / 1e6:.1f} M |"
        if not options.count:
            started = time.perf_counter()
            while not run.finished:
                run.train_epoch()
            accuracy = run.history[-1].val_accuracy
            line += f" {100 * accuracy:.2f} | {time.perf_counter() - started:.0f} |"
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
