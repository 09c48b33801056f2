"""Run-time monitors of a network on MNIST: alarms for gamma 0 to 3, Gaussians against Hamming."""
