"""Give every buffer an address: lifetimes from the order of the actions, places from ``schedule.allocate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openkpu.codegen.buffers import Action, Body, Buffer
from openkpu.errors import MemoryLimitError
from openkpu.k210 import AI_LINE_BYTES, AI_RAM_BYTES, MAIN_RAM_BYTES
from openkpu.kmodel.program import Memory
from openkpu.schedule.allocate import Piece, Plan, allocate, conflict


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The plans of both memories. Peaks and bounds are in bytes."""

    ai: Plan
    main: Plan


def lifetimes(
    actions: Sequence[Action], inputs: Sequence[Buffer], outputs: Sequence[Buffer]
) -> dict[int, tuple[int, int]]:
    """Return ``id(buffer) -> (first, last)`` action; inputs live from -1, outputs to the end."""
    life: dict[int, list[int]] = {id(b): [-1, -1] for b in inputs}
    for i, a in enumerate(actions):
        for b in (*a.writes, *a.reads):
            life.setdefault(id(b), [i, i])[1] = i
    for b in outputs:
        life[id(b)][1] = len(actions)
    return {k: (v[0], v[1]) for k, v in life.items()}


def place(actions: Sequence[Action], inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> MemoryPlan:
    """Set ``start`` of every buffer. ``MemoryLimitError`` if a memory is too small, naming the fullest step.

    What V5's caller holds counts to main RAM.
    """
    callers = sum({id(b): b.size for b in (*inputs, *outputs) if b.memory in (Memory.INPUT, Memory.OUTPUT)}.values())
    life = lifetimes(actions, inputs, outputs)
    buffers = {id(b): b for a in actions for b in (*a.writes, *a.reads)} | {id(b): b for b in inputs}
    plans: dict[Memory, Plan] = {}
    for memory, align, limit in ((Memory.AI, AI_LINE_BYTES, AI_RAM_BYTES), (Memory.MAIN, 8, MAIN_RAM_BYTES)):
        bodies: dict[int, Body] = {}
        for b in buffers.values():
            if b.memory is memory:
                body = b.body or Body([b])
                bodies.setdefault(id(body) if b.body else id(b), body)
        members = list(bodies.values())
        pieces = [[Piece(m.offset, m.size, *life[id(m)]) for m in body.members if id(m) in life] for body in members]
        for body, parts in zip(members, pieces, strict=True):
            pair = conflict(parts)
            if pair is not None:
                names = " and ".join(f"'{body.members[i].name}'" for i in pair)
                raise RuntimeError(f"{names} are needed at the same time in the same place of {memory.value} RAM")
        plan = allocate(pieces, align)
        if memory is Memory.MAIN:
            limit -= callers
        if plan.peak > limit:
            error = None
            if memory is Memory.MAIN:
                error = _outputs_too_large(plan.peak + callers, inputs, outputs)
            raise error or _too_large(memory, plan, limit, actions, life, buffers)
        for body, start in zip(members, plan.starts, strict=True):
            for m in body.members:
                m.start = start + m.offset
        plans[memory] = plan
    return MemoryPlan(plans[Memory.AI], plans[Memory.MAIN])


def _outputs_too_large(need: int, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> MemoryLimitError | None:
    """Return the error for a model of which most of the memory are outputs; None if they are not.

    V5's inputs and outputs lie in buffers of the caller, which are main RAM all the same.
    """
    distinct = sorted({id(b): b for b in outputs}.values(), key=lambda b: -b.size)
    held = sum(b.size for b in distinct)
    if 2 * held < need:
        return None
    names = ", ".join(f"'{b.name}' {'x'.join(map(str, b.shape))} ({b.size} bytes)" for b in distinct[:4])
    beside = sum(b.size for b in inputs if b.memory is Memory.INPUT)
    rest = f"what they are made from {need - held - beside}" + (f", the input {beside}" if beside else "")
    return MemoryLimitError(
        "E294",
        "the model's outputs do not fit main RAM",
        where=f"output {names}",
        why=f"outputs are float32 and stay in main RAM: {held} bytes, {rest}; together {need}, limit {MAIN_RAM_BYTES}",
        fix="end the model at a smaller tensor (outputs=[...]), such as behind a pooling or a layer of fewer channels, "
        f"or use a smaller input picture: about {MAIN_RAM_BYTES / need:.0%} of its pixels fit",
    )


def _too_large(
    memory: Memory,
    plan: Plan,
    limit: int,
    actions: Sequence[Action],
    life: dict[int, tuple[int, int]],
    buffers: dict[int, Buffer],
) -> MemoryLimitError:
    def live(i: int) -> list[Buffer]:
        return [b for k, b in buffers.items() if b.memory is memory and life[k][0] <= i <= life[k][1]]

    worst = max(range(len(actions)), key=lambda i: sum(b.size for b in live(i)))
    parts = ", ".join(f"{b.name} {b.size}" for b in sorted(live(worst), key=lambda b: -b.size)[:5])
    title = "AI RAM" if memory is Memory.AI else "main RAM"
    bound = "no order of places can be smaller" if plan.is_optimal else f"the lower bound is {plan.bound}"
    return MemoryLimitError(
        "E302",
        f"the feature maps do not fit {title}",
        where=f"layer '{actions[worst].name}'",
        why=f"{plan.peak} bytes needed at once, limit {limit} ({bound}); largest: {parts}",
        fix="use a smaller input picture, fewer channels, or end long skip connections earlier",
    )
