"""The virtual board: firmware builds and their memory, flash, SD card, camera, display, clock, and the process around them."""
