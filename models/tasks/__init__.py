"""Generated tasks that small networks learn in seconds, hard enough that pruning can hurt.

One task a file; `tasks.load(name)` returns it. Every sample comes from a seed. Importing this
package imports no torch; loading a task does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edgesparse.errors import UsageError

if TYPE_CHECKING:
    from edgesparse.models.tasks.task import Task

# Name -> what the network has to do.
TASKS = {
    "digits": "class of a shifted, noisy digit",
    "keywords": "class of a word of sine mixtures, from its spectrogram",
    "sorting": "every token's place in order",
    "shapes": "class of every pixel of noisy overlapping shapes",
    "boxes": "boxes and classes of several noisy shapes",
}


def load(name: str) -> Task:
    """Return a task; imports torch.

    Raises:
        UsageError: There is no such task.
    """
    if name not in TASKS:
        raise UsageError(f"task '{name}' is unknown", hint=f"use one of: {', '.join(TASKS)}")
    task: Task = importlib.import_module(f"{__name__}.{name}").TASK
    return task
