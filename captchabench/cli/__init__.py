"""The command `captchabench`, one file per command family."""
