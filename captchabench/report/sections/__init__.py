"""The sections of the page, one file each. A section turns findings into HTML and adds its charts to the figures."""
