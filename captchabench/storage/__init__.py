"""Files: written whole or not at all, sealed with a checksum. Nothing here can change a result."""
