"""captchabench: an offline, reproducible benchmark of CAPTCHA recognisers."""

__version__ = "0.1.0"
