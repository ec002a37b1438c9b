"""What lies on the device: images, their nearest neighbours, and captured CUDA graphs."""
