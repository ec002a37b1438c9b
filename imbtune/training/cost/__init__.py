"""The cost of training: counted image passes, and measured times and memory."""
