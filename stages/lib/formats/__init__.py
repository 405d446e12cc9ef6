"""Weights in other formats than torch's: from the bytes of a file to the names and tensors of a library."""
