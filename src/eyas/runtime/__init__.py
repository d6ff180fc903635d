"""Running exported students. Imports onnxruntime, tokenizers and numpy, never torch."""
