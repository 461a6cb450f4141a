"""Times of what stands beside the model in a MaixPy script: the flash that streams it, the camera, the display.

Streaming (``kpu.load_flash``): the flash sends four bits a clock. Two published models give the share of the clock that
becomes bytes, and what a second buffer hides. Camera and display follow from their clocks; nobody published them alone.
"""

from __future__ import annotations

from typing import Final

from openkpu.estimate.bar import Estimate

FLASH_BITS: Final = 4  # a clock, quad SPI
FLASH_SHARE: Final = 0.89
"""Of the flash's clocks carry data: 388776 bytes take 37 - 24 = 13 ms at 67.17 MHz (neucrack.com/p/313; +-1 ms)."""
FLASH_FACTOR: Final = 1.15
FLASH_MHZ: Final = 67.17
"""The clock of the published measurements; MaixPy's default for ``load_flash`` scripts is 80 MHz asked, this got."""
HIDDEN: Final = 0.3
"""Of the KPU's time lie under the reading with two buffers: 37 -> 34 ms and 117 -> 97 ms in the same source."""
HIDDEN_MOST: Final = 0.55

LCD_MHZ: Final = 15.0  # MaixPy's default for lcd.init; boards are used up to 20
LCD_FACTOR: Final = 1.3
CAMERA_FPS: Final = 30.0  # OV2640 and GC0328 at QVGA with MaixPy's settings; OV7740 reaches 60
CAMERA_FACTOR: Final = 2.0


def flash_stream(file_bytes: int, forward: Estimate, *, spi_mhz: float = FLASH_MHZ, dual: bool = False) -> Estimate:
    """A forward pass that reads its file from flash; ``forward`` is the time of the same pass from RAM."""
    read = Estimate.factor(file_bytes / (spi_mhz * FLASH_BITS / 8 * FLASH_SHARE), FLASH_FACTOR)
    whole = forward + read
    if not dual:
        return whole
    least = min(forward.us, read.us)
    return Estimate(whole.us - HIDDEN * least, max(forward.low, whole.low - HIDDEN_MOST * least), whole.high)


def lcd_transfer(width: int = 320, height: int = 240, *, spi_mhz: float = LCD_MHZ) -> Estimate:
    """``lcd.display``: 16 bits a pixel over the eight data lines of the boards' parallel display port."""
    return Estimate.factor(width * height * 2 / spi_mhz, LCD_FACTOR)


def camera_period(fps: float = CAMERA_FPS) -> Estimate:
    """The time between two pictures of the sensor; ``snapshot`` waits for the next one."""
    return Estimate.factor(1e6 / fps, CAMERA_FACTOR)
