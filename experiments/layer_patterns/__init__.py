"""Layer activation patterns on MNIST: ten findings of a thesis looked for, detectors compared."""
