"""Teachers: live, or cached on disk. Both are called with a batch and return the fields asked for."""

from understudy.teachers.cached import CachedTeacher, label_texts
from understudy.teachers.encoder import Encoder
from understudy.teachers.live import Teacher

__all__ = ["CachedTeacher", "Encoder", "Teacher", "label_texts"]
