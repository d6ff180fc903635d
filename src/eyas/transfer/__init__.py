"""The transfer set: the texts a student is trained on. Its functions take a data set and return a larger one."""

from eyas.settings import TransferSettings
from eyas.transfer.augmentation import METHODS, Augmentation, augment
from eyas.transfer.selection import RULES, Selection, select
from eyas.transfer.texts import (
    blend_of,
    check_transfer,
    chosen_texts,
    default_augment,
    describe_transfer,
    sources_of,
    transfer_set,
)
from eyas.transfer.unlabeled import most_alike, new_texts

__all__ = [
    "METHODS",
    "RULES",
    "Augmentation",
    "Selection",
    "TransferSettings",
    "augment",
    "blend_of",
    "check_transfer",
    "chosen_texts",
    "default_augment",
    "describe_transfer",
    "most_alike",
    "new_texts",
    "select",
    "sources_of",
    "transfer_set",
]
