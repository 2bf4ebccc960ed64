"""YAML read by hand, so that every complaint names the line it is about, and all come together.

reader = YamlReader("farm.yaml")
root = reader.mapping(reader.root, "the file", required=("models",), optional=("tag",))
tag = reader.text(root["tag"], "tag")
reader.finish()                             # raises what was found
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

import yaml

from edgesparse.errors import UsageError

Node = yaml.nodes.Node
ANY = sys.float_info.max  # where a number has no upper bound but infinity


class YamlReader:
    """A YAML file and what is wrong with it."""

    def __init__(self, path: str | pathlib.Path) -> None:
        """Parse the file.

        Raises:
            UsageError: It cannot be read, or is no YAML.
        """
        self.path = pathlib.Path(path)
        self.problems: list[tuple[int, str]] = []
        try:
            text = self.path.read_text(encoding="utf-8")
            self.root = yaml.compose(text, Loader=yaml.SafeLoader)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is no text: {error}") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f":{mark.line + 1}" if mark else ""
            raise UsageError(f"{path}{where}: no YAML: {error.problem}") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise UsageError(f"{path}: no YAML: {error}") from error

    def complain(self, node: Node | None, sentence: str) -> None:
        """Note a problem."""
        self.problems.append((node.start_mark.line + 1 if node else 1, sentence))

    def finish(self, hint: str = "") -> None:
        """Raise the problems, if there are any.

        Raises:
            UsageError: There are.
        """
        if self.problems:
            found = (f"{self.path}:{line}: {sentence}" for line, sentence in sorted(self.problems))
            raise UsageError("\n".join(found), hint=hint)

    def mapping(
        self,
        node: Node | None,
        what: str,
        *,
        required: Sequence[str] = (),
        optional: Sequence[str] = (),
    ) -> dict[str, Node]:
        """Return the values of a mapping whose keys are known."""
        if not isinstance(node, yaml.MappingNode):
            self.complain(node, f"expected {what} to be a mapping, found {_kind(node)}")
            return {}
        known, values = (*required, *optional), dict[str, Node]()
        for key, value in node.value:
            name = str(key.value)
            if name not in known:
                self.complain(key, f"unknown key {name!r}; {what} has {', '.join(known)}")
            elif name in values:
                self.complain(key, f"{name} is given twice")
            values[name] = value
        for name in required:
            if name not in values:
                self.complain(node, f"{what} has no {name!r}")
        return values

    def pairs(self, node: Node, what: str) -> list[tuple[str, Node]]:
        """Return names and values of a mapping with any keys."""
        if not isinstance(node, yaml.MappingNode):
            self.complain(node, f"expected {what} to be a mapping, found {_kind(node)}")
            return []
        return [(str(key.value), value) for key, value in node.value]

    def items(self, node: Node, what: str) -> list[Node]:
        """Return the items of a list that is not empty; one alone may stand without the list."""
        if not isinstance(node, yaml.SequenceNode):
            return [node]
        if not node.value:
            self.complain(node, f"{what} is empty")
        return list(node.value)

    def text(self, node: Node, what: str) -> str:
        """Return a text."""
        if isinstance(node, yaml.ScalarNode) and node.tag != "tag:yaml.org,2002:null":
            return str(node.value)
        self.complain(node, f"expected {what} to be a text, found {_kind(node)}")
        return ""

    def number(
        self,
        node: Node,
        what: str,
        least: float,
        most: float = ANY,
        *,
        whole: bool = False,
    ) -> float | None:
        """Return a number from `least` to `most`; None if there is none."""
        kinds = ("int",) if whole else ("int", "float")
        if isinstance(node, yaml.ScalarNode) and node.tag.rpartition(":")[2] in kinds:
            value = yaml.SafeLoader("").construct_object(node)
            if least <= value <= most:
                return int(value) if whole else float(value)
        word = "a whole number" if whole else "a number"
        bounds = "or more" if most == ANY else f"to {most:.12g}"
        self.complain(
            node, f"expected {what} to be {word} of {least:g} {bounds}, found {_kind(node)}"
        )
        return None

    def flag(self, node: Node, what: str) -> bool:
        """Return a truth value."""
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":bool"):
            return bool(yaml.SafeLoader("").construct_object(node))
        self.complain(node, f"expected {what} to be true or false, found {_kind(node)}")
        return False


def _kind(node: Node | None) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"{node.value!r}" if node is not None and node.value else "nothing"
