"""Teachers: live, or cached on disk. `outputs(batch, fields)` returns the requested fields."""

from eyas.teachers.aligned import AlignedTeacher, align, aligned_by_name
from eyas.teachers.answers import FileTeacher, FunctionTeacher
from eyas.teachers.cached import CachedTeacher, label_texts
from eyas.teachers.combined import CombinedTeacher
from eyas.teachers.domains import MetaTeacher
from eyas.teachers.encoder import Encoder
from eyas.teachers.exported import ExportedTeacher
from eyas.teachers.live import Teacher
from eyas.teachers.zero_shot import ZeroShotTeacher

__all__ = [
    "AlignedTeacher",
    "CachedTeacher",
    "CombinedTeacher",
    "Encoder",
    "ExportedTeacher",
    "FileTeacher",
    "FunctionTeacher",
    "MetaTeacher",
    "Teacher",
    "ZeroShotTeacher",
    "align",
    "aligned_by_name",
    "label_texts",
]
