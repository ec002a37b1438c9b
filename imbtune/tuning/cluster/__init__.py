"""Ray: connecting to it, and the resources that a trial gets."""
