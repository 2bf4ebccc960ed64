"""Compile a model, classify an image with it, score it on a data set, and measure it.

python classify.py [--model MODEL.onnx] [--output FOLDER] [--threads N]
"""

from __future__ import annotations

import argparse
import pathlib
import re
import tempfile

import numpy as np

import edgesparse
from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import resolve_device
from edgesparse.harness.measure import measure

HERE = pathlib.Path(__file__).resolve().parent
TRAINED = HERE.parents[1] / "models" / "trained"


def read_pgm(path: pathlib.Path) -> np.ndarray:
    """Return a binary PGM as (1, 1, height, width) float32 in [0, 1]."""
    data = path.read_bytes()
    # One space ends the header: the pixels may begin with bytes that are spaces, too.
    header = re.match(rb"P5\s+(\d+)\s+(\d+)\s+(\d+)\s", data)
    if header is None:
        raise ValueError(f"{path} is no binary PGM")
    width, height, brightest = map(int, header.groups())
    values = np.frombuffer(data[header.end() :], np.uint8).reshape(1, 1, height, width)
    return (values / np.float32(brightest)).astype(np.float32)


def main() -> None:
    """Do all of it, and print what comes out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=pathlib.Path, default=TRAINED / "digits_mobilenet_v1.onnx")
    parser.add_argument("--output", type=pathlib.Path, help="where the bundle goes")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        output = options.output or pathlib.Path(scratch) / "digits"
        bundle = edgesparse.compile(options.model, target="host", output=output)
        report(bundle, options.threads)


def report(bundle: edgesparse.Bundle, threads: int) -> None:
    """Classify, score and measure."""
    image = read_pgm(HERE.parent / "three.pgm")
    logits = bundle.run({"image": image}, threads=threads)["logits"]
    print(f"it is a {logits.argmax()}")

    with np.load(TRAINED / "digits_heldout.npz") as data:
        images, labels = data["image"][:100], data["label"][:100]
    found = [bundle.run({"image": one[None]})["logits"].argmax() for one in images]
    print(f"{np.mean(found == labels):.0%} of {len(labels)} held-out images are right")

    device = resolve_device(None, bundle)
    document = measure([("digits", bundle)], device, limits=Limits(runs=50), threads=threads)
    print(f"median {document['results'][0]['median_ms']:.3f} ms on {document['device']['cpu']}")


if __name__ == "__main__":
    main()
