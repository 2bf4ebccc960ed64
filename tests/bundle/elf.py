"""Just enough of ELF64 to look at what the linker made. Source: System V ABI, chapters 4 and 5."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

PT_LOAD = 1
SHT_SYMTAB, SHT_DYNAMIC, SHT_DYNSYM = 2, 6, 11
DT_NEEDED = 1
STB_GLOBAL = 1


@dataclasses.dataclass(frozen=True)
class Section:
    kind: int
    offset: int
    size: int
    link: int


class Elf:
    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        assert self.data[:5] == b"\x7fELF\x02"
        self.machine = struct.unpack_from("<H", self.data, 18)[0]
        start, count = self._number("<Q", 40), self._number("<H", 60)
        self.sections = [self._section(start + 64 * i) for i in range(count)]

    def load_alignments(self) -> list[int]:
        start, count = self._number("<Q", 32), self._number("<H", 56)
        headers = [struct.unpack_from("<IIQQQQQQ", self.data, start + 56 * i) for i in range(count)]
        return [header[7] for header in headers if header[0] == PT_LOAD]

    def dynamic_symbols(self) -> tuple[set[str], set[str]]:
        """Return the names of defined and of undefined symbols."""
        return self._symbols(SHT_DYNSYM)

    def static_symbols(self) -> tuple[set[str], set[str]]:
        return self._symbols(SHT_SYMTAB)

    def global_symbols(self) -> tuple[set[str], set[str]]:
        """Like static_symbols, without those that no other object sees."""
        return self._symbols(SHT_SYMTAB, least_binding=STB_GLOBAL)

    def needed_libraries(self) -> int:
        (section,) = (s for s in self.sections if s.kind == SHT_DYNAMIC)
        tags = [self._number("<q", section.offset + i) for i in range(0, section.size, 16)]
        return tags.count(DT_NEEDED)

    def _symbols(self, kind: int, least_binding: int = 0) -> tuple[set[str], set[str]]:
        defined: set[str] = set()
        undefined: set[str] = set()
        (section,) = (s for s in self.sections if s.kind == kind)
        names = self.sections[section.link].offset
        for offset in range(section.offset + 24, section.offset + section.size, 24):
            name, info, _, index = struct.unpack_from("<IBBH", self.data, offset)
            if info >> 4 < least_binding:
                continue
            end = self.data.index(b"\0", names + name)
            text = self.data[names + name : end].decode()
            (defined if index else undefined).add(text)
        return defined - {""}, undefined - {""}

    def _section(self, at: int) -> Section:
        _, kind, _, _, offset, size, link = struct.unpack_from("<IIQQQQI", self.data, at)
        return Section(kind, offset, size, link)

    def _number(self, layout: str, at: int) -> int:
        return int(struct.unpack_from(layout, self.data, at)[0])
