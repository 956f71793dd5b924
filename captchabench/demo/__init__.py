"""`captchabench demo`: a page to try trained models on, and their HTTP interface. On this machine, over files."""
