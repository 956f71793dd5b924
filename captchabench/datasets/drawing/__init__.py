"""What the stand-in drawers share: glyphs, strokes, warps and the encoders.

Drawing is integer arithmetic from end to end, so that a generator gives the same pixels on every machine:
sines and roots are looked up in tables of whole numbers, warps are fixed-point, blends divide exactly.
"""
