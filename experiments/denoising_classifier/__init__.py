"""The denoising classifier on MNIST: trained on the digits 1 to 9, with 0 as the unknown class."""
