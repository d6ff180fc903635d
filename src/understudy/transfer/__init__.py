"""The transfer set: the texts a student is trained on. Functions data set -> larger data set."""

from understudy.transfer.augmentation import METHODS, Augmentation, augment
from understudy.transfer.selection import RULES, Selection, select
from understudy.transfer.texts import TransferSettings, chosen_texts, transfer_set
from understudy.transfer.unlabelled import most_alike, new_texts

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
