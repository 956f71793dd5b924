"""Trained models put to work on images: what `captchabench predict` and the demo share."""
