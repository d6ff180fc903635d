"""Compression: model in, smaller model out. It imports no training code; `eyas.training` trains between the two halves.

`compress` changes a model in place so that it can be trained in its compressed form; `merge` ends that. What is written
is an ordinary model of the same class: weights of low rank, with zeros, or with few values. `eyas.export` finds these
and stores and runs them as what they are.
"""

from eyas.compression.layers import layers_left
from eyas.compression.low_bits import LARGEST, PACKED, TERNARY, learn_curvature, learns_curvature, rounded_copy
from eyas.compression.methods import FORMS, Compress, Method, check_methods, compress, merge, parse_methods
from eyas.compression.shrink import FACTORS, shrunk

__all__ = [
    "FACTORS",
    "FORMS",
    "LARGEST",
    "PACKED",
    "TERNARY",
    "Compress",
    "Method",
    "check_methods",
    "compress",
    "layers_left",
    "learn_curvature",
    "learns_curvature",
    "merge",
    "parse_methods",
    "rounded_copy",
    "shrunk",
]
