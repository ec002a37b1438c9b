"""The methods of a training run: mixing, losses, class weights, sampling, schedules, optimizers.

Each method is a small pure function that is registered under a name. Shape suffixes of names: B a
batch, K classes, N training images, S steps of an epoch.
"""
