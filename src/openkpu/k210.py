"""The chip on one page: memories, clocks and limits of the Kendryte K210. No other file repeats one of these numbers.

Sources: [SDK] kendryte-standalone-sdk ``lib/drivers/kpu.c`` and ``kpu.h``; [V3] nncase 0.1's K210 limits;
[DS] K210 datasheet 0.1.5. Where a number was only inferred, the comment says so.
"""

from __future__ import annotations

from typing import Final

# -- memories -----------------------------------------------------------------------------------------------------
MAIN_RAM_BYTES: Final = 6 * 1024 * 1024  # [DS] general-purpose SRAM of the two cores
AI_RAM_BYTES: Final = 2 * 1024 * 1024  # [DS] the KPU's own SRAM; holds feature maps only
AI_LINE_BYTES: Final = 64  # [SDK] AI RAM is addressed in lines of 64 bytes
AI_LINES: Final = AI_RAM_BYTES // AI_LINE_BYTES  # 32768: image_src_addr/image_dst_addr have 15 bits

# -- clocks -------------------------------------------------------------------------------------------------------
KPU_HZ: Final = 400_000_000  # [SDK] demos set PLL1/KPU to 400 MHz
CPU_HZ: Final = 400_000_000  # [DS] normal clock; MaixPy's default too. Bus, DMA and SRAM run at the CPU's clock
MOST_MHZ: Final = 800  # [DS] PLL outputs go this far; boards are stable up to about 600 (CPU) and 500 (KPU)
LEAST_MHZ: Final = 26  # the crystal's frequency, with the PLLs bypassed

# -- the convolution unit -----------------------------------------------------------------------------------------
KPU_LANES: Final = 64  # multipliers for each tap: one line of AI RAM a cycle
KPU_TAPS: Final = 9  # taps in parallel: 576 multiply-accumulates a cycle for 3x3, 64 for 1x1

# -- what one KPU layer can do ------------------------------------------------------------------------------------
MAX_CHANNELS: Final = 1024  # [SDK] 10-bit channel fields hold n-1
MAX_WIDTH: Final = 512  # the width up to which the vendor's V4 and V5 compilers use the KPU; the field would hold 1024
MAX_HEIGHT: Final = 256  # likewise; the field would hold 512
DOCUMENTED_WIDTH: Final = 320  # [DS] "full acceleration"
DOCUMENTED_HEIGHT: Final = 240
MIN_SIZE: Final = 4  # [V3] input and output at least 4x4
MAX_WEIGHT_LOADS: Final = 64  # [SDK] load_time has 6 bits and holds n-1
WEIGHT_LOAD_BYTES_8: Final = 30 * 1024  # [V3] bytes of 8-bit weights in one load
WEIGHT_LOAD_BYTES_16: Final = 60 * 1024  # [V3] bytes of 16-bit weights in one load
ACTIVATION_SEGMENTS: Final = 16  # [SDK] kpu_activate_table_t
ACCUMULATOR_BITS: Final = 36  # [V5 runtime asserts it] signed width of the convolution result and of batch norm

# -- fixed-point fields (bits, signed unless said) ----------------------------------------------------------------
BN_MUL_BITS: Final = 24
BN_ADD_BITS: Final = 32
BN_SHIFT_MAX: Final = 15  # unsigned 4 bits
ACT_MUL_BITS: Final = 16
ACT_START_BITS: Final = 36
# The field has 8 bits, but the vendor's V4 simulator is undefined from 32 on; no shipped file uses more than 20.
ACT_SHIFT_MAX: Final = 31
