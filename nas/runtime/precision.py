"""The name of the arithmetic that a network is trained in; needs no torch."""

from enum import StrEnum


class Precision(StrEnum):
    """Arithmetic of forward and backward passes; weights, norms, averages and losses: float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"  # of convolutions and linear layers (torch.autocast)


AUTO = "auto"
PRECISIONS = (AUTO, *(precision.value for precision in Precision))
"""What a person may ask for; `auto` becomes one of the others on the device, see `arithmetic`."""
