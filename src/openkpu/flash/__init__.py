"""The board's flash: packages, images, and the way over the serial port.

``layout`` says what lies where, ``firmware`` how the boot ROM wants a program framed, ``kfpkg`` reads and writes flash
packages, ``image`` is the flash itself, ``pack`` puts files in place. ``slip``, ``boards``, ``isp``, ``stub``, ``port``
and ``flasher`` bring them onto a board; ``readback`` asks the board what it has.
"""
