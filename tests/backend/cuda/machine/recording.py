"""What the machine has recorded, in a form that tests ask."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

__all__ = ["Launch", "Recording"]


@dataclass(frozen=True)
class Launch:
    """One kernel: the operator's name and the kernel's, how many threads, and the bytes of the arrays that it gets."""

    name: str
    threads: int
    bytes: int = 0


@dataclass
class _Operator:
    """What ran in one operator of Jittor's: its arrays, and the addresses in them that each launch was given.

    An address stands for the bytes from there to the next one that any launch or product of the operator was given,
    so that a map of a larger array counts for itself. Each launch moves what it is given once, halos not counted.
    """

    arrays: dict[int, int] = field(default_factory=dict)
    launches: list[tuple[str, int, set[int]]] = field(default_factory=list)
    addresses: set[int] = field(default_factory=set)

    def finished(self) -> list[Launch]:
        starts = sorted(self.addresses | {first + size for first, size in self.arrays.items()})
        sizes = {start: following - start for start, following in pairwise(starts)}
        return [Launch(name, threads, sum(sizes[each] for each in given)) for name, threads, given in self.launches]


@dataclass
class Recording:
    """What happened between two marks.

    Attributes:
        launches: every kernel, in order.
        bytes_of_libraries: read and written by cuBLAS and cuDNN, every array once.
        libraries: calls of cuDNN, cuBLAS and cuRAND by kind.
        copies: number and bytes by direction and kind, for example ("device to host", "blocking").
        synchronisations: by what was waited for.
        allocations: bytes of each new block of device memory.
        peak: most bytes of device memory so far.
    """

    launches: list[Launch] = field(default_factory=list)
    libraries: Counter[str] = field(default_factory=Counter)
    bytes_of_libraries: int = 0
    copies: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes_copied: Counter[tuple[str, str]] = field(default_factory=Counter)
    synchronisations: Counter[str] = field(default_factory=Counter)
    allocations: list[int] = field(default_factory=list)
    peak: int = 0
    _operator: _Operator = field(default_factory=_Operator)

    @classmethod
    def read(cls, path: Path) -> dict[str, Recording]:
        """By the name of the mark that ends each: ``Recording.read(path)["step 3"]``."""
        recordings, current = {}, cls()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "mark":
                name, _, peak = rest.rpartition(", peak ")
                current.peak = int(peak)
                current._finish_operator()
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
            self._operator.launches.append((name, threads, set()))
        elif kind == "operator":
            self._finish_operator()
        elif kind == "operand":
            first, size = map(int, rest.split(", "))
            self._operator.arrays[first] = size
        elif kind in ("gets", "address"):  # a kernel or a product
            self._operator.addresses.add(int(rest))
            if kind == "gets":
                self._operator.launches[-1][2].add(int(rest))
        elif kind == "moves":
            self.bytes_of_libraries += int(rest)
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

    def _finish_operator(self) -> None:
        self.launches += self._operator.finished()
        self._operator = _Operator()

    def summary(self) -> str:
        """A table for people: what a step is made of."""
        small = sum(launch.threads <= 4096 for launch in self.launches)
        lines = [
            f"{len(self.launches)} launches, {small} of at most 4096 threads; "
            f"{sum(launch.bytes for launch in self.launches) / 1e9:.1f} GB read and written",
            f"{self.bytes_of_libraries / 1e9:.1f} GB read and written by libraries",
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
