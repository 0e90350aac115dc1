"""What the gateway costs, as ratios to the least that could do the same, measured within one run (`python -m benchmarks`)."""
