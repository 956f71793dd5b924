"""`captchabench doctor`: what this machine has, which paths are taken on it, and whether they do what they should."""
