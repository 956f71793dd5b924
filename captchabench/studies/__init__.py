"""Questions beyond accuracy: calibration, transfer, robustness, cost, ambiguity, label errors. One file each."""
