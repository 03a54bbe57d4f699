"""What the machine has recorded, in a form that tests ask."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Launch", "Recording"]


@dataclass(frozen=True)
class Launch:
    """One kernel: the operator's name and the kernel's, and how many threads."""

    name: str
    threads: int


@dataclass
class Recording:
    """What happened between two marks.

    Attributes:
        launches: every kernel, in order.
        libraries: calls of cuDNN, cuBLAS and cuRAND by kind.
        copies: number and bytes by direction and kind, for example ("device to host", "blocking").
        synchronisations: by what was waited for.
        allocations: bytes of each new block of device memory.
        peak: most bytes of device memory so far.
    """

    launches: list[Launch] = field(default_factory=list)
    libraries: Counter[str] = field(default_factory=Counter)
    copies: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes_copied: Counter[tuple[str, str]] = field(default_factory=Counter)
    synchronisations: Counter[str] = field(default_factory=Counter)
    allocations: list[int] = field(default_factory=list)
    peak: int = 0

    @classmethod
    def read(cls, path: Path) -> dict[str, Recording]:
        """By the name of the mark that ends each: ``Recording.read(path)["step 3"]``."""
        recordings, current = {}, cls()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "mark":
                name, _, peak = rest.rpartition(", peak ")
                current.peak = int(peak)
                recordings[name], current = current, cls()
            else:
                current._add(kind, rest)
        return recordings

    def _add(self, kind: str, rest: str) -> None:
        if kind == "launch":
            name, grid, block = rest.rsplit(", ", 2)
            threads = 1
            for number in (grid + block).replace("grid", " ").replace("block", " ").split():
                threads *= int(number)
            self.launches.append(Launch(name, threads))
        elif kind == "library":
            self.libraries[rest.partition(",")[0]] += 1
        elif kind == "copy":
            direction, how, size = rest.split(", ")
            self.copies[direction, how] += 1
            self.bytes_copied[direction, how] += int(size)
        elif kind == "synchronise":
            self.synchronisations[rest] += 1
        elif kind == "allocate":
            self.allocations.append(int(rest))

    def summary(self) -> str:
        """A table for people: what a step is made of."""
        small = sum(launch.threads <= 4096 for launch in self.launches)
        lines = [
            f"{len(self.launches)} launches, {small} of at most 4096 threads",
            *(f"{count} {name}" for name, count in sorted(self.libraries.items())),
            *(
                f"{count} copies {', '.join(key)}: {self.bytes_copied[key] / 1e6:.1f} MB"
                for key, count in sorted(self.copies.items())
            ),
            f"{self.synchronisations.total()} synchronisations {dict(self.synchronisations)}",
            f"{len(self.allocations)} new blocks of memory, {sum(self.allocations) / 2**20:.1f} MiB; "
            f"peak {self.peak / 2**30:.2f} GiB",
        ]
        return "\n".join(lines)
