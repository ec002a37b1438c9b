"""Images on the device, their nearest neighbours, and captured CUDA graphs."""
