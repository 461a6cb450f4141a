"""The virtual board: firmware builds and their memory, files, camera, display, clock, and the process around them."""
