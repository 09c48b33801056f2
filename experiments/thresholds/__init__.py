"""What thresholds promise, and what they keep."""
