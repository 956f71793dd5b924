"""Prediction with trained models: the code shared by `captchabench predict` and the demo."""
