"""TrivialAugment Wide (Mueller and Hutter 2021, arXiv:2103.10158) of a whole batch at once.

Shapes: N images, H x W pixels, C channels, V = 256 pixel values, B bins of strength.
"""

from enum import IntEnum

import torch
from torch import Tensor
from torch.nn import functional as F

_BINS = 31


class Operation(IntEnum):
    """What can happen to an image, in the order of torchvision's TrivialAugmentWide."""

    IDENTITY = 0
    SHEAR_X = 1  # pixels sideways per pixel downwards
    SHEAR_Y = 2
    TRANSLATE_X = 3  # pixels, without their fraction
    TRANSLATE_Y = 4
    ROTATE = 5  # degrees, counter-clockwise
    BRIGHTNESS = 6  # from here to sharpness: -1 for none of it, 0 for no change
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10  # bits that stay, without their fraction
    SOLARIZE = 11  # values from here on are inverted
    AUTO_CONTRAST = 12
    EQUALIZE = 13


DRAWS = (len(Operation), _BINS, 2)
"""What `trivial_augment` needs for an image: whole numbers from 0 to below these, drawn evenly."""


def trivial_augment(
    pixels_NHWC: Tensor, operations_N: Tensor, strengths_N: Tensor, signs_N: Tensor
) -> Tensor:
    """Every image after one operation of one strength; uint8 to uint8.

    Operations, strengths and signs are those of torchvision's TrivialAugmentWide. Its moves of up
    to 32 pixels are for 32-pixel images; here they reach the full width or height of any image.

    Args:
        pixels_NHWC: the images.
        operations_N: the `Operation` of each, int64; this and the next two drawn as `DRAWS` says.
        strengths_N: from the weakest to the strongest.
        signs_N: 1 turns the magnitude around where an operation has a direction.
    """
    _, height, width, _ = pixels_NHWC.shape
    table = magnitudes(height, width, pixels_NHWC.device)
    magnitudes_N = table[operations_N, strengths_N]
    signed_N = (operations_N >= Operation.SHEAR_X) & (operations_N <= Operation.SHARPNESS)
    negative_N = signed_N & signs_N.bool()
    return apply_operations(
        pixels_NHWC, operations_N, torch.where(negative_N, -magnitudes_N, magnitudes_N)
    )


def magnitudes(height: int, width: int, device: torch.device) -> Tensor:
    """What there is to draw for images of this size, without signs: (operations, B)."""

    # Made where they are needed: a copy from the host would wait for the device.
    def up_to(top: float) -> Tensor:
        return torch.linspace(0.0, top, _BINS, device=device)

    none_B, share_B = up_to(0.0), up_to(0.99)
    bits_B = 8 - (torch.arange(_BINS, device=device) / ((_BINS - 1) / 6)).round()
    space = {
        Operation.IDENTITY: none_B,
        Operation.SHEAR_X: share_B,
        Operation.SHEAR_Y: share_B,
        Operation.TRANSLATE_X: up_to(width),
        Operation.TRANSLATE_Y: up_to(height),
        Operation.ROTATE: up_to(135.0),
        Operation.BRIGHTNESS: share_B,
        Operation.COLOR: share_B,
        Operation.CONTRAST: share_B,
        Operation.SHARPNESS: share_B,
        Operation.POSTERIZE: bits_B,
        Operation.SOLARIZE: up_to(255.0).flip(0),
        Operation.AUTO_CONTRAST: none_B,
        Operation.EQUALIZE: none_B,
    }
    return torch.stack([space[operation] for operation in Operation])


def apply_operations(pixels_NHWC: Tensor, operations_N: Tensor, magnitudes_N: Tensor) -> Tensor:
    """Every image after its `Operation`, of the magnitude (float32) that torchvision would take.

    What moves out of sight leaves black. With other than 3 channels COLOR changes nothing and
    CONTRAST is about each channel's own mean; for 1 channel that is what torchvision does.

    Measured against torchvision 0.29 on a CPU, with every strength and sign: the same pixels at 8,
    28, 31, 32 and 64 pixels square. At other sizes a source halfway between two pixels may round
    to the other one: 0.03% of pixels in some shears of 96 x 96, 3% in 20 x 33 turned by 90 degrees.
    """
    # An image has one operation: the other two steps leave it as it is, whatever their order.
    grey_NHWC = _grey(pixels_NHWC)
    mapped_NHWC = _map_values(pixels_NHWC, grey_NHWC, operations_N, magnitudes_N)
    blended_NHWC = _blend(mapped_NHWC, grey_NHWC, operations_N, magnitudes_N)
    return _move(blended_NHWC, operations_N, magnitudes_N)


def _grey(pixels_NHWC: Tensor) -> Tensor:
    """Luma as whole numbers in float32, (N, H, W, 1); the pixels where there are not 3 channels."""
    if pixels_NHWC.shape[3] != 3:
        return pixels_NHWC.float()
    red_NHW, green_NHW, blue_NHW = pixels_NHWC.unbind(dim=3)
    return (0.2989 * red_NHW + 0.587 * green_NHW + 0.114 * blue_NHW).floor_().unsqueeze(3)


def _mixed(values: Tensor, degenerate: Tensor, magnitude: Tensor) -> Tensor:
    """The values, away from the degenerate ones for a magnitude above 0, else towards them.

    Two products and a sum, each rounded: a lerp would end at other whole numbers than torchvision.
    """
    return (values * (1 + magnitude) + degenerate * -magnitude).clamp_(0, 255).byte()


def _map_values(
    pixels_NHWC: Tensor, grey_NHWC: Tensor, operations_N: Tensor, magnitudes_N: Tensor
) -> Tensor:
    """The operations that depend on a pixel's value alone: a table of V per image and channel."""
    images, _, _, channels = pixels_NHWC.shape
    device = pixels_NHWC.device
    size = images * channels * 256
    first_N11C = torch.arange(0, size, 256, device=device).view(images, 1, 1, channels)
    entries = (first_N11C + pixels_NHWC).flatten()
    counts_NCV = (
        torch.zeros(size, dtype=torch.int32, device=device)
        .scatter_add_(0, entries, torch.ones_like(entries, dtype=torch.int32))
        .view(images, channels, 256)
    )
    at_most_NCV = counts_NCV.cumsum(dim=2, dtype=torch.int32)

    values_V = torch.arange(256, dtype=torch.int32, device=device)
    operations_N11 = operations_N[:, None, None]
    magnitudes_N11 = magnitudes_N[:, None, None]
    brightness_N11 = operations_N11 == Operation.BRIGHTNESS
    contrast_N11 = operations_N11 == Operation.CONTRAST
    mean_NC1 = grey_NHWC.mean(dim=(1, 2))[:, :, None] * contrast_N11
    table_NCV = _mixed(
        values_V, mean_NC1, torch.where(brightness_N11 | contrast_N11, magnitudes_N11, 0.0)
    )
    lost_N11 = torch.where(operations_N11 == Operation.POSTERIZE, 8 - magnitudes_N11.int(), 0)
    for operation, other in (
        (Operation.POSTERIZE, values_V >> lost_N11 << lost_N11),
        (
            Operation.SOLARIZE,
            torch.where(values_V >= magnitudes_N11, 255 - values_V, values_V),
        ),
        (Operation.AUTO_CONTRAST, _stretched(at_most_NCV)),
        (Operation.EQUALIZE, _equalized(at_most_NCV)),
    ):
        table_NCV = torch.where(operations_N11 == operation, other.byte(), table_NCV)
    return table_NCV.flatten().index_select(0, entries).view(pixels_NHWC.shape)


def _stretched(at_most_NCV: Tensor) -> Tensor:
    """Tables (N, C, V) that spread a channel over 0..255, from counts of pixels up to a value."""
    values_V = torch.arange(256, device=at_most_NCV.device)
    least_NC1 = (at_most_NCV == 0).sum(dim=2, keepdim=True)
    most_NC1 = (at_most_NCV < at_most_NCV[:, :, -1:]).sum(dim=2, keepdim=True)
    scale_NC1 = 255 / (most_NC1 - least_NC1).float()
    stretched_NCV = ((values_V - least_NC1) * scale_NC1).clamp_(0, 255)
    return torch.where(most_NC1 > least_NC1, stretched_NCV, values_V)


def _equalized(at_most_NCV: Tensor) -> Tensor:
    """Tables (N, C, V) that spread a channel's pixels evenly, from their counts up to a value."""
    values_V = torch.arange(256, device=at_most_NCV.device)
    below_NCV = F.pad(at_most_NCV[:, :, :-1], (1, 0))
    below_most_NC1 = (at_most_NCV * (at_most_NCV < at_most_NCV[:, :, -1:])).amax(2, keepdim=True)
    step_NC1 = below_most_NC1 // 255
    equalized_NCV = (below_NCV + step_NC1 // 2) // step_NC1.clamp(min=1)
    return torch.where(step_NC1 > 0, equalized_NCV.clamp_(max=255), values_V)


def _blend(
    pixels_NHWC: Tensor, grey_NHWC: Tensor, operations_N: Tensor, magnitudes_N: Tensor
) -> Tensor:
    """COLOR and SHARPNESS."""
    _, height, width, channels = pixels_NHWC.shape
    operations_N111 = operations_N[:, None, None, None]
    sharpness_N111 = operations_N111 == Operation.SHARPNESS
    changed_N111 = torch.zeros_like(sharpness_N111)
    if channels == 3:
        changed_N111 |= operations_N111 == Operation.COLOR
    if min(height, width) > 2:
        changed_N111 |= sharpness_N111
    return _mixed(
        pixels_NHWC,
        torch.where(sharpness_N111, _blurred(pixels_NHWC), grey_NHWC),
        torch.where(changed_N111, magnitudes_N[:, None, None, None], 0.0),
    )


def _blurred(pixels_NHWC: Tensor) -> Tensor:
    """Each pixel inside the border as the mean of 3 x 3, the one in the middle counting 5 times."""
    sums = pixels_NHWC.short()
    sums = sums[:, :-2] + sums[:, 1:-1] + sums[:, 2:]
    sums = sums[:, :, :-2] + sums[:, :, 1:-1] + sums[:, :, 2:]
    sums += 4 * pixels_NHWC[:, 1:-1, 1:-1].short()
    blurred_NHWC = pixels_NHWC.clone()
    blurred_NHWC[:, 1:-1, 1:-1] = (sums / 13).round_()  # 13 is odd: never halfway
    return blurred_NHWC


def _move(pixels_NHWC: Tensor, operations_N: Tensor, magnitudes_N: Tensor) -> Tensor:
    """The operations that move pixels: each takes the nearest source's value, or black."""
    images, height, width, _ = pixels_NHWC.shape
    device = pixels_NHWC.device

    def of(operation: Operation) -> Tensor:
        return torch.where(operations_N == operation, magnitudes_N, 0.0)

    shear_x_N, shear_y_N, angle_N = map(
        of, (Operation.SHEAR_X, Operation.SHEAR_Y, Operation.ROTATE)
    )
    left_N, up_N = (-of(o).trunc() for o in (Operation.TRANSLATE_X, Operation.TRANSLATE_Y))
    sin_N = angle_N.deg2rad().sin()
    cos_N = (90 - angle_N.abs()).deg2rad().sin()  # exactly 0 at a right angle
    # The center is the origin of turns, the upper left corner that of shears.
    x_W = torch.arange(width, device=device) + (0.5 - width / 2)
    y_H1 = (torch.arange(height, device=device) + (0.5 - height / 2))[:, None]
    column_NHW = _nearest(
        cos_N, shear_x_N - sin_N, shear_x_N * (height / 2) + left_N, x_W, y_H1, size=width
    )
    row_NHW = _nearest(
        shear_y_N + sin_N, cos_N, shear_y_N * (width / 2) + up_N, x_W, y_H1, size=height
    )
    inside_NHW = (column_NHW >= 0) & (column_NHW < width) & (row_NHW >= 0) & (row_NHW < height)
    first_N11 = torch.arange(images, device=device)[:, None, None] * (height * width)
    sources_NHW = (first_N11 + row_NHW * width + column_NHW) * inside_NHW  # any place if outside
    moved_NHWC = pixels_NHWC.flatten(0, 2).index_select(0, sources_NHW.flatten())
    return moved_NHWC.view(pixels_NHWC.shape) * inside_NHW[..., None]


def _nearest(
    per_x_N: Tensor, per_y_N: Tensor, offset_N: Tensor, x_W: Tensor, y_H1: Tensor, *, size: int
) -> Tensor:
    """The row or column (N, H, W) at `per_x x + per_y y + offset` pixels from the center.

    By way of torchvision's units, where the image is 2 wide, to round as it does.
    """
    per_x_N11, per_y_N11, offset_N11 = (
        weights_N[:, None, None] / (size / 2) for weights_N in (per_x_N, per_y_N, offset_N)
    )
    place_NHW = per_x_N11 * x_W + per_y_N11 * y_H1 + offset_N11
    return ((place_NHW + 1) * (size / 2) - 0.5).round_().long()
