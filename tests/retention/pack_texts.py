"""Policy packs as texts that tests write otherwise in one place, and a shelf of their own for them."""

from __future__ import annotations

from importlib.resources import files


def text_of(name: str) -> str:
    """The text of a pack that ships."""
    return files("retention").joinpath("packs", f"{name}.toml").read_text(encoding="utf-8")


def changed(text: str, old: str, new: str) -> str:
    """The text with one passage, which must be there once, written otherwise."""
    assert text.count(old) == 1, f"{text.count(old)} times: {old}"
    return text.replace(old, new)


def version_two(*changes: tuple[str, str], name: str = "mailkai") -> str:
    """A made-up second version of a pack that ships."""
    text = changed(text_of(name), "version = 1\n", "version = 2\n")
    for old, new in changes:
        text = changed(text, old, new)
    return text


def block(header: str, retention_class: str, rest: str) -> str:
    """How a table of a class is written in the packs that ship."""
    return f'[[{header}]]\nclass = "{retention_class}"\n{rest}'
