"""What things cost on the chip: a model fitted to published measurements, with an error bar on every number.

``kpu`` is the accelerator, ``cpu`` the operators of each runtime, ``devices`` flash, camera and display; ``steps`` puts
a price on every step of a program and ``profile`` adds them up. ``price`` is what the lowering asks when a layer can
run in several ways. ``measurements`` holds the published figures and ``fit`` the fit and its cross-validation.
"""
