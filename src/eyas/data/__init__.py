"""Any source of texts -> one schema; labels, tokenizers, word vectors."""
