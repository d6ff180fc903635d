"""Running exported students. Imports onnxruntime, tokenizers, tokie and numpy, never torch."""
