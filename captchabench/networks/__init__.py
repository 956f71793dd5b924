"""What reading with a network needs: convolutions, heads, CTC, decoding, pretrained weights, the device."""
