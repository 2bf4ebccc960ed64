"""Networks to compile: torch definitions, pruning, training recipes, export, and a zoo.

Importing this package imports neither torch nor scikit-learn; only what builds or trains a network
needs them (`pip install 'edgesparse[models]'`). The committed networks of `zoo.path` need nothing.
"""
