"""Portable TIR emitters: one family a file, each a frozen dataclass with `name` and `emit`."""
