"""What makes a trained network sparse, in small pieces that compose on plain torch modules.

    patterns      which weights share a fate: a score -> a mask
    schedules     how much is due at a step
    ratios        how the zeros are shared out among the layers
    layers        which layers, and their weights as matrices
    masked        training through a mask: SR-STE, decayed masks
    envelope      a regulariser: the k-level group envelope
    distillation  a dense teacher's features
    low_rank      factored layers instead of zeros
    quantisation  weights and activations as int8 sees them
    latency       pattern and density of every layer by error against predicted time

`edgesparse.models.prune.Pruner` puts them together. Importing this package imports no torch.
"""
