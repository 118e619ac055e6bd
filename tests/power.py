"""A model of a disk that forgets, at a power cut, what was not flushed to it.

Content of a file lasts once the file has been flushed, and names in a folder once the folder has
been. One call that changes two names, such as a rename, lasts as a whole or not at all.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

# The calls themselves: the module `faults` puts others in their place.
_LINK, _RENAME, _MKDIR, _UNLINK = os.link, os.rename, os.mkdir, os.unlink


@dataclass(eq=False)
class Node:
    """A file or a folder, whatever its names.

    Parameters
    ----------
    is_folder : bool
    names, kept : dict
        Of a folder: what is in it now, and what of it is on the disk.
    content : bytes or None
        Of a file: what of it is on the disk; None for nothing.
    spare : pathlib.Path or None
        A second link to a file, which keeps it when its last name is removed.
    number : int
        Of this node alone; an ``id`` can be that of an earlier node, too.
    """

    is_folder: bool
    names: dict[str, Node] = field(default_factory=dict)
    kept: dict[str, Node] = field(default_factory=dict)
    content: bytes | None = None
    spare: Path | None = None
    number: int = field(default_factory=count().__next__, init=False)


# Names in folders, and what they lead to from now on; None for nothing.
Change = list[tuple[Node, str, Node | None]]


class Disk:
    """All below a folder, as it is now, and as a power cut would leave it.

    Parameters
    ----------
    folder : pathlib.Path
        What is in it at the start is on the disk.
    aside : pathlib.Path
        An empty folder on the same file system.
    """

    def __init__(self, folder: Path, aside: Path) -> None:
        self.folder, self.aside = folder, aside
        self.root = Node(is_folder=True)
        self.pending: list[Change] = []
        for path, node in self._refreshed():
            if not node.is_folder:
                node.content = path.read_bytes()
        for change in self.pending:
            _apply(change)
        self.pending = []

    def about_to(self, *paths: Path) -> None:
        """Note what is at these paths, before a call that may remove it."""
        for path in paths:
            parent = self._node(path.parent)
            if parent is None:
                continue
            self._refresh(path.parent, parent)
            node = parent.names.get(path.name)
            if node is not None and not node.is_folder and node.spare is None:
                node.spare = self.aside / f"spare-{node.number}"
                _LINK(path, node.spare)

    def has_done(self, name: str, *paths: Path) -> None:
        """Note what a call has done."""
        if name == "fsync":
            self._flush(paths[0])
            return
        parents = [self._node(path.parent) for path in paths]
        if name in ("rename", "exchange", "link") and None not in parents:
            (one, other), (source, target) = parents, paths
            moved, there = one.names[source.name], other.names.get(target.name)
            change: Change = [(other, target.name, moved)]
            if name != "link":
                change.append((one, source.name, there if name == "exchange" else None))
            self._note(change)
            return
        for path, parent in zip(paths, parents, strict=True):
            if parent is not None:
                self._refresh(path.parent, parent)

    def cut(self, seed: int) -> None:
        """Leave the folder as a power cut may leave it.

        Parameters
        ----------
        seed : int
            0 forgets all names and content that need not last; 1 keeps all names, and empties what
            need not last; others choose: for names, a part of the calls, or those up to one; for
            content, empty, zeros, a half, what was there before, or all.
        """
        choose = random.Random(seed)
        live = {node: path for path, node in self._refreshed()}
        for change in self._lasting(seed, choose):
            _apply(change)
        files = {node: path for node, path in live.items() if not node.is_folder}
        for node, path in files.items():
            if node.spare is None:
                node.spare = self.aside / f"spare-{node.number}"
                _RENAME(path, node.spare)
        # Folders keep their numbers too: by these a place is known again.
        folders = {node: path for node, path in live.items() if node.is_folder}
        for node, path in sorted(folders.items(), key=lambda item: -len(item[1].parts)):
            for entry in path.iterdir():
                _UNLINK(entry)
            _RENAME(path, self.aside / f"folder-{node.number}")
        for entry in self.folder.iterdir():
            _UNLINK(entry)
        self._build(self.folder, self.root, seed, choose, set())

    def _lasting(self, seed: int, choose: random.Random) -> list[Change]:
        if seed < 2:
            return self.pending if seed else []
        if choose.random() < 0.5:
            return self.pending[: choose.randint(0, len(self.pending))]
        return [change for change in self.pending if choose.random() < 0.5]

    def _build(
        self, folder: Path, node: Node, seed: int, choose: random.Random, seen: set[Node]
    ) -> None:
        for name, child in sorted(node.kept.items()):
            path = folder / name
            if not child.is_folder:
                assert child.spare is not None
                _LINK(child.spare, path)
                if child not in seen:
                    _forget(path, child.content, seed, choose)
            elif child not in seen:
                aside = self.aside / f"folder-{child.number}"
                _RENAME(aside, path) if aside.exists() else _MKDIR(path)
                self._build(path, child, seed, choose, seen)
            seen.add(child)

    def _flush(self, path: Path) -> None:
        node = self.root if path == self.folder else self._node(path)
        if node is None:
            return
        if not node.is_folder:
            node.content = path.read_bytes()
            return
        self._refresh(path, node)
        # What came before at the same names, or led there, is on the disk before.
        touched, lasting, waiting = {node}, [], []
        for change in reversed(self.pending):
            folders = {folder for folder, _, _ in change}
            if folders & touched:
                touched |= folders
                lasting.append(change)
            else:
                waiting.append(change)
        for change in reversed(lasting):
            _apply(change)
        self.pending = waiting[::-1]

    def _node(self, path: Path) -> Node | None:
        """The node at a path; None outside the folder, or where nothing is."""
        if path == self.folder:
            return self.root
        if not path.is_relative_to(self.folder):
            return None
        parent = self._node(path.parent)
        if parent is None:
            return None
        if path.name not in parent.names:
            self._refresh(path.parent, parent)
        return parent.names.get(path.name)

    def _refresh(self, path: Path, node: Node) -> None:
        """Note names that came or went in a folder, whoever did it."""
        there = {entry.name: entry.is_dir(follow_symlinks=False) for entry in os.scandir(path)}
        for name in set(node.names) - set(there):
            self._note([(node, name, None)])
        for name in sorted(set(there) - set(node.names)):
            self._note([(node, name, Node(there[name]))])

    def _refreshed(self) -> Iterator[tuple[Path, Node]]:
        """All nodes that have a name now, with one of their paths."""
        waiting, seen = [(self.folder, self.root)], {self.root}
        while waiting:
            path, node = waiting.pop()
            if node.is_folder:
                self._refresh(path, node)
            for name, child in node.names.items():
                if child not in seen:
                    seen.add(child)
                    yield path / name, child
                    waiting.append((path / name, child))

    def _note(self, change: Change) -> None:
        for folder, name, node in change:
            _set(folder.names, name, node)
        self.pending.append(change)


def _apply(change: Change) -> None:
    for folder, name, node in change:
        _set(folder.kept, name, node)


def _set(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _forget(path: Path, content: bytes | None, seed: int, choose: random.Random) -> None:
    """Change what was not flushed of a file as a power cut may change it."""
    now = path.read_bytes()
    if now == content:
        return
    choices = [b"", bytes(len(now)), now[: len(now) // 2], now]
    if content is not None:
        choices.append(content)
    found = choices[0] if seed < 2 else choose.choice(choices)
    if found != now:
        path.write_bytes(found)


def clear(aside: Path) -> None:
    """Remove what a disk has put aside."""
    shutil.rmtree(aside, ignore_errors=True)
