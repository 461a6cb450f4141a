"""From float operators to what the K210 executes: KPU layers, and the CPU operators of the kmodel's runtime.

The result is again a float graph (its operators are listed in ``ops``), so that it can be run for calibration; numbers
become integers in ``quantize``.
"""
