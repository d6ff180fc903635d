"""Loading any source of texts into one schema; labels, tokenizers, word vectors."""
