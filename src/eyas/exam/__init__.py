"""Exams: train many students of one teacher, compare them on the same texts, and choose the one to ship.

Reading results does not import torch.
"""
