"""Microcontrollers that a network may be for, and what of them is left for it."""

from collections.abc import Mapping
from dataclasses import dataclass

KIB = 1024
FLASH_KEPT = 100 * KIB  # bytes, for the program: TensorFlow Lite Micro and a sketch around it
RAM_KEPT = 0.25  # a share, for the stack, an image and whatever else a program has
KEPT_BACK = "a quarter of the RAM and 100 KiB of flash are kept back for the program"
KERNELS = "The arena is that of TensorFlow Lite Micro with CMSIS-NN, on an Arm Cortex-M"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A board, by its data sheet."""

    name: str
    processor: str
    flash: int  # bytes
    ram: int  # bytes
    source: str

    @property
    def max_flash(self) -> int:
        """Bytes that the file of a network may have."""
        return self.flash - FLASH_KEPT

    @property
    def max_arena(self) -> int:
        """Bytes of RAM that a network may need."""
        return int(self.ram * (1 - RAM_KEPT))

    @property
    def maxima(self) -> dict[str, int]:
        """Both, by the names of `Limits`."""
        return {"max_arena": self.max_arena, "max_flash": self.max_flash}


DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        Device(
            name="arduino-nano-33-ble",
            processor="nRF52840, Cortex-M4F, 64 MHz",
            flash=1024 * KIB,
            ram=256 * KIB,
            source="Nordic, nRF52840 product specification",
        ),
        Device(
            name="raspberry-pi-pico",
            processor="RP2040, Cortex-M0+, 133 MHz",
            flash=2048 * KIB,
            ram=264 * KIB,
            source="Raspberry Pi, Pico datasheet",
        ),
        Device(
            name="raspberry-pi-pico-2",
            processor="RP2350, Cortex-M33, 150 MHz",
            flash=4096 * KIB,
            ram=520 * KIB,
            source="Raspberry Pi, Pico 2 datasheet",
        ),
        Device(
            name="stm32f746",
            processor="STM32F746, Cortex-M7, 216 MHz",
            flash=1024 * KIB,
            ram=320 * KIB,
            source="STMicroelectronics, datasheet DS10916",
        ),
        Device(
            name="stm32l4r5",
            processor="STM32L4R5, Cortex-M4F, 120 MHz",
            flash=2048 * KIB,
            ram=640 * KIB,
            source="STMicroelectronics, datasheet DS12023; MLPerf Tiny's board",
        ),
    )
}
"""Every device by its name: each an Arm Cortex-M, whose kernels' scratch buffers are counted."""
