"""Teachers: live, or cached on disk. Both are called with a batch and return the fields asked for."""

from eyas.teachers.cached import CachedTeacher, label_texts
from eyas.teachers.encoder import Encoder
from eyas.teachers.live import Teacher

__all__ = ["CachedTeacher", "Encoder", "Teacher", "label_texts"]
