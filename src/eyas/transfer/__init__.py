"""The transfer set: the texts a student is trained on. Functions data set -> larger data set."""

from eyas.transfer.augmentation import METHODS, Augmentation, augment
from eyas.transfer.selection import RULES, Selection, select
from eyas.transfer.texts import TransferSettings, chosen_texts, transfer_set
from eyas.transfer.unlabelled import most_alike, new_texts

__all__ = [
    "METHODS",
    "RULES",
    "Augmentation",
    "Selection",
    "TransferSettings",
    "augment",
    "chosen_texts",
    "most_alike",
    "new_texts",
    "select",
    "transfer_set",
]
