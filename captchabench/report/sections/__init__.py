"""The page's sections, one file each: findings in, HTML out; charts are entered into the page's figures."""
