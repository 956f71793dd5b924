"""Questions beyond accuracy: calibration, transfer, carry, robustness, cost, ambiguity, label errors. One file each."""
