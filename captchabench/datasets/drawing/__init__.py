"""The parts that stand-ins are drawn with: glyphs, strokes, warps, backgrounds and encoders.

All drawing is integer arithmetic, so that equal generators give the same pixels on every machine: sines and roots come
from tables of integers, warps are fixed-point, and blending uses integer division.
"""
