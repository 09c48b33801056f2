"""Outputs, features, shaping and LINe on the DenseNets of CIFAR-10 and CIFAR-100."""
