"""Any source of rows -> one schema, with labels, tokenizers and word vectors."""
