"""Students that write: encoder-decoders (T5, BART, Marian) that learn from larger ones of their family."""

from eyas.evaluation.written import evaluate
from eyas.generation.data import load_pairs
from eyas.generation.models import TextGenerator
from eyas.generation.recipes import RECIPES, Recipe
from eyas.generation.run import distill, finetune

__all__ = ["RECIPES", "Recipe", "TextGenerator", "distill", "evaluate", "finetune", "load_pairs"]
