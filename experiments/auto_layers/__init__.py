"""What it costs to monitor some of the layers of a network, and not all."""
