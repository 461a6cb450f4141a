"""The operators that run on the CPU, with the device runtime's arithmetic, one family a file.

Every function takes NumPy arrays and returns a new one; none knows about memories or files. Floats are float32
throughout and sums run in the order of the runtime's C loops, so that results agree with the device to a few units in
the last place (the device build uses fused multiply-add and newlib's ``expf``, so its floats are not defined to the
bit). Source of the semantics: kendryte-standalone-sdk ``lib/drivers/kpu.c``.
"""
