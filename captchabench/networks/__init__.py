"""What reading with a network needs: its parts, its heads, CTC, decoding, the device."""
