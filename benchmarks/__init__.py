"""How fast skood is, as ratios to the network and to other libraries: ``python -m benchmarks``."""
