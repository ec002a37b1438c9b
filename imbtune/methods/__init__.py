"""What a training run is made of: mixing, losses, class weights, samplers, schedules.

Every part is a small pure function. Shape suffixes: B a batch, K classes, N training images,
S the steps of an epoch.
"""
