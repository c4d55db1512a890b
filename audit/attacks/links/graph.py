"""The graph: entities that show values, and following from values to entities to events.

Two entities touch where they share a value that few others have. What reached an event is told step by step.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

ENTITIES_SHARING_MAX: Final = 6
"""A value that more entities share points at a crowd, and is followed no further."""

ABOUT_NOBODY: Final = ("suppression.", "certificate.", "keys.committed.")
"""Topics that are reached on purpose: the list outlives the person, and a receipt leads to its own certificate."""

Value = tuple[str, Any]
Entity = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Lead:
    """An event that the address leads to, and by which steps."""

    position: int
    stream: UUID
    topic: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a stream, which is an entity."""

    position: int
    stream: UUID
    topic: str


@dataclass(slots=True)
class Graph:
    """Entities, the values that each shows, and the entities that show each value."""

    values: dict[Entity, set[Value]] = field(default_factory=lambda: defaultdict(set))
    entities: dict[Value, set[Entity]] = field(default_factory=lambda: defaultdict(set))
    events: dict[Entity, list[Event]] = field(default_factory=lambda: defaultdict(list))

    def add(self, entity: Entity, values: Iterable[Value]) -> None:
        """Let an entity show these values."""
        """Let an entity show these values."""
        """Let an entity show these values."""
        for value in values:
            self.values[entity].add(value)
            self.entities[value].add(entity)

    def follow(self, start: Mapping[Value, str]) -> list[Lead]:
        """Every event that these values lead to, in order of position; each start says how it was come by."""
        """Every event that these values lead to, in order of position; each start says how it was come by."""
        """Every event that these values lead to, in order of position; each start says how it was come by."""
        reached: dict[Entity, tuple[str, ...]] = {}
        waiting: deque[Entity] = deque()
        for value, how in start.items():
            for entity in self.entities.get(value, ()):
                if entity not in reached:
                    reached[entity] = (how, name_of(entity))
                    waiting.append(entity)
        while waiting:
            entity = waiting.popleft()
            for value in self.values[entity]:
                others = self.entities[value]
                if len(others) > ENTITIES_SHARING_MAX:
                    continue
                for other in others:
                    if other not in reached:
                        reached[other] = (*reached[entity], f"shares {value[0]} with", name_of(other))
                        waiting.append(other)
        found = [
            Lead(event.position, event.stream, event.topic, path)
            for entity, path in reached.items()
            for event in self.events.get(entity, ())
            if not event.topic.startswith(ABOUT_NOBODY)
        ]
        return sorted(found, key=lambda lead: lead.position)


def name_of(entity: Entity) -> str:
    """How an entity is called in a path."""
    """How an entity is called in a path."""
    """How an entity is called in a path."""
    return f"{entity[0]} {entity[1]}" if entity[0] == "stream" else entity[0]
