"""The state of a lowering: values made so far, the new graph, and the record of what was decided for each layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import MemoryLimitError
from openkpu.estimate import price
from openkpu.estimate.cpu import RUNTIMES, Runtime
from openkpu.graph.elementwise import Expr, X, is_falling
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import MAX_CHANNELS, MAX_WEIGHT_LOADS, MIN_SIZE
from openkpu.kpu.constraints import LayerShape, ai_ram, channels_per_load
from openkpu.lower.ops import POOLS
from openkpu.lower.target import V3, Target
from openkpu.lower.view import View

Value = View | Tensor
"""A spatial map, or a flat tensor in row-major order."""


@dataclass(slots=True)
class Decision:
    """What was decided for one layer of the source model, for ``kpu check`` and the compile report."""

    layer: str
    op: str
    shape: str
    where: str
    """``KPU``, ``KPU after a rewrite``, ``CPU`` or ``not possible``."""
    how: str = ""
    why: str = ""
    fix: str = ""
    microseconds: float = 0.0
    alternative: str = ""


@dataclass(slots=True)
class Context:
    """Everything that the lowering rules share."""

    source: Graph
    users: dict[int, list[Node]]
    target: Target = V3
    values: dict[int, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    deferred: dict[int, Node] = field(default_factory=dict)
    """Convolutions that a following Add may take in, by the id of their output."""
    names: set[str] = field(default_factory=set)
    exact: dict[tuple[int, ...], View] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)
    """Source tensors that a rewrite made, so that their ids stay theirs."""
    origin: tuple[str, ...] = ()
    spent: float = 0.0
    room: int = 0
    """Bytes of main RAM that weights may take beyond those of the model; rewrites that blow weights up ask."""
    layer_us: float = 0.0
    """What a KPU layer less is worth beside its time: above 0 where the file must be streamed, see ``streamed``."""
    largest_body: int = 1 << 30
    """Most bytes of weights in one layer: where the file must be streamed, two of them are in main RAM at a time."""

    @property
    def rates(self) -> Runtime:
        """What the CPU's work costs on the target's runtime."""
        return RUNTIMES[self.target.version]

    # -- new tensors and nodes ------------------------------------------------------------------------------------
    def name(self, stem: str) -> str:
        """Return an unused tensor name."""
        name, i = stem, 1
        while name in self.names:
            i += 1
            name = f"{stem}.{i}"
        self.names.add(name)
        return name

    def emit(self, op: str, inputs: list[Tensor], dims: tuple[int, ...], stem: str, **attrs: Any) -> Tensor:
        """Append a node and return its output, of shape ``dims``."""
        out = Tensor(self.name(stem), dims, inputs[0].dtype if op == "Reshape" else "float32")
        self.nodes.append(Node(op, inputs, [out], attrs, self.origin))
        return out

    # -- KPU layers -----------------------------------------------------------------------------------------------
    def kpu_conv(
        self,
        x: Tensor,
        w: NDArray[Any],
        b: NDArray[Any],
        stem: str,
        *,
        fn: Expr | None = None,
        pool: str = "none",
        depthwise: bool = False,
    ) -> Tensor:
        """Emit a KPU layer (several, where it has too many weight loads). w is (oc, ic or 1, k, k), b (oc,)."""
        if fn is not None and is_falling(fn):
            # the chip's table rounds rising segments well and falling ones badly: f(v) = g(-v) with g rising
            w, b, fn = -w, -b, fn.substitute(Expr("Neg", (X,)))
        _, c, h, wd = x.shape
        oc, k = w.shape[0], w.shape[2]
        _, stride, _ = POOLS[pool]
        out_size = (h // stride, wd // stride)
        shape = LayerShape(c, (h, wd), oc, out_size, (k, k), groups=c if depthwise else 1, pool=pool)
        per_layer = min(channels_per_load(shape) * MAX_WEIGHT_LOADS, MAX_CHANNELS)
        per_layer = max(4, min(per_layer, self.largest_body // (c * k * k)))
        if not depthwise and oc > per_layer:
            per_layer -= per_layer % 4
            parts = [
                self.kpu_conv(
                    x, w[i : i + per_layer], b[i : i + per_layer], f"{stem}.part{i // per_layer}", fn=fn, pool=pool
                )
                for i in range(0, oc, per_layer)
            ]
            return self.concat(parts, stem)
        problem = ai_ram(shape)
        if problem:
            raise MemoryLimitError(
                "E301",
                "a layer's feature maps do not fit the KPU's memory",
                where=self.where(stem),
                why=problem,
                fix="use a smaller input picture or fewer channels in this layer",
            )
        self.spent += price.kpu_layer_us(c, h, wd, oc, kernel=k, depthwise=depthwise, version=self.target.version)
        ws = Tensor(self.name(f"{stem}.weights"), w.shape, "float32", np.ascontiguousarray(w, np.float32))
        bs = Tensor(self.name(f"{stem}.bias"), b.shape, "float32", np.ascontiguousarray(b, np.float32))
        return self.emit(
            "KpuConv", [x, ws, bs], (1, oc, *out_size), stem, depthwise=depthwise, fn=fn, pool=pool, vector=False
        )

    def identity(
        self, x: Tensor, stem: str, *, fn: Expr | None = None, pool: str = "none", shift: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """Emit a KPU layer that only applies ``fn``, a pooling (dense then) or a shift: out(y, x) = in(y+dy, x+dx)."""
        c = x.shape[1]
        k = 3 if shift != (0, 0) else 1
        if pool == "none":
            w = np.zeros((c, 1, k, k), np.float32)
            w[:, 0, k // 2 + shift[0], k // 2 + shift[1]] = 1
        else:
            w = np.zeros((c, c, k, k), np.float32)
            w[range(c), range(c), k // 2 + shift[0], k // 2 + shift[1]] = 1
        return self.kpu_conv(x, w, np.zeros(c, np.float32), stem, fn=fn, pool=pool, depthwise=pool == "none" and c > 1)

    def concat(self, parts: list[Tensor], stem: str) -> Tensor:
        """Place feature maps side by side (no code)."""
        if len(parts) == 1:
            return parts[0]
        return self.emit("KpuConcat", parts, (1, sum(p.shape[1] for p in parts), *parts[0].shape[2:]), stem)

    def channels(self, t: Tensor, first: int, count: int, stem: str) -> Tensor:
        """See some channels of a map, which begin at a line of AI RAM, as a map of their own (no code)."""
        assert first % View.whole(t).layout.group == 0
        if (first, count) == (0, t.shape[1]):
            return t
        return self.emit("KpuSlice", [t], (1, count, *t.shape[2:]), stem, first=first, count=count)

    def whole_lines(self, t: Tensor, w: NDArray[Any], stem: str) -> tuple[Tensor, NDArray[Any]]:
        """Add zero channels to a map that does not fill whole lines, and to the dense kernel that reads it."""
        c = t.shape[1]
        wide = c + -c % View.whole(t).layout.group
        if wide == c:
            return t, w
        eye = np.eye(wide, c, dtype=np.float32).reshape(wide, c, 1, 1)
        t = self.kpu_conv(t, eye, np.zeros(wide, np.float32), f"{stem}.wide")
        return t, np.concatenate([w, np.zeros((w.shape[0], wide - c, *w.shape[2:]), np.float32)], axis=1)

    def pad(self, x: View, pads: tuple[int, int, int, int], stem: str, why: str, fix: str) -> View:
        """Pad a whole map with zeros (top, left, bottom, right) on the CPU."""
        top, left, bottom, right = pads
        shape = (1, x.channels, x.height + top + bottom, x.width + left + right)
        out = self.emit("CpuPad", [x.tensor], shape, f"{stem}.pad", pads=pads)
        self.on_cpu("pad", x.tensor, out, why, fix)
        return View.whole(out)

    def on_cpu(self, what: str, before: Tensor, after: Tensor, why: str, fix: str) -> None:
        """Record a trip of a map through main RAM that a rewrite costs, as a decision of its own."""
        sizes = [t.shape[1] * t.shape[2] * t.shape[3] for t in (before, after)]
        dims = ["x".join(map(str, t.shape[1:])) for t in (before, after)]
        layer = self.origin[-1] if self.origin else after.name
        version = self.target.version
        if what == "crop":
            us = price.cpu_cut_us(sizes[0], (after.shape[1], after.shape[2], after.shape[3]), version=version)
        else:
            us = price.cpu_pool_us(sizes[0], sizes[1], 1, width=after.shape[3], version=version)
        self.decisions.append(Decision(layer, what, " -> ".join(dims), "CPU", "", why, fix, us))

    # -- views ----------------------------------------------------------------------------------------------------
    def pool_fits(self, physical: tuple[int, int], pool: str) -> bool:
        """Whether the KPU's pooling leaves at least 4x4."""
        s = POOLS[pool][1]
        return min(physical[0] // s, physical[1] // s) >= MIN_SIZE

    def materialize(self, v: View, stem: str) -> View:
        """Return the picture as a whole map of its own, cutting it out on the KPU where it can, else on the CPU."""
        if v.is_whole:
            return v
        key = (id(v.tensor), v.top, v.left, v.height, v.width, v.step)
        if key in self.exact:
            return self.exact[key]
        result = self._cut_on_kpu(v, stem)
        if result is None:
            h, w = v.size
            out = self.emit(
                "CpuMaxPool",
                [v.tensor],
                (1, v.channels, h, w),
                f"{stem}.cut",
                kernel=(1, 1),
                stride=(v.step, v.step),
                origin=(v.top, v.left),
                size=(h, w),
            )
            self.on_cpu(
                "stride" if v.step > 1 else "crop",
                v.tensor,
                out,
                f"the next layer needs the {w}x{h} picture for itself, and it is only a part of a "
                f"{v.physical[1]}x{v.physical[0]} map",
                "pad 1 pixel round 3x3 convolutions, and use sizes that stay even at every stride",
            )
            result = View.whole(out)
        self.exact[key] = result
        return result

    def _cut_on_kpu(self, v: View, stem: str) -> View | None:
        """A stride-2 picture that fills the map is one left-top or right-top pooling, if that is cheaper.

        Odd rows come from a kernel whose only tap is one row further down.
        """
        ph, pw = v.physical
        if v.step != 2 or v.top not in (0, 1) or v.left not in (0, 1) or not self.pool_fits(v.physical, "left_top2"):
            return None
        if (v.height, v.width) != (ph // 2, pw // 2):
            return None
        c = v.channels
        version = self.target.version
        on_kpu = price.kpu_layer_us(c, ph, pw, c, kernel=1, depthwise=False, version=version)
        if on_kpu > price.cpu_pool_us(c * ph * pw, c * v.height * v.width, 1, width=v.width, version=version):
            return None
        pool = "right_top2" if v.left else "left_top2"
        return View.whole(self.identity(v.tensor, f"{stem}.stride", pool=pool, shift=(v.top, 0)))

    # -- lookups --------------------------------------------------------------------------------------------------
    def map(self, t: Tensor) -> View:
        """Return a 4-D value as a view; a vector (1, C) counts as a (1, C, 1, 1) map."""
        v = self.values[id(t)]
        if isinstance(v, View):
            return v
        shape = t.shape if len(t.shape) == 4 else (1, t.shape[1], 1, 1)
        if tuple(v.shape) == shape:
            return View.whole(v)
        return View.whole(self.emit("Reshape", [v], shape, f"{v.name}.map", shape=shape))

    def flat(self, t: Tensor) -> Tensor:
        """Return a value as a plain tensor of its own shape."""
        v = self.values[id(t)]
        return self.materialize(v, v.tensor.name).tensor if isinstance(v, View) else v

    def shaped(self, t: Tensor) -> Tensor:
        """Return a value as a plain tensor of the source tensor's shape (``flat`` may leave out sizes of 1)."""
        v = self.flat(t)
        return v if tuple(v.shape) == t.shape else self.emit("Reshape", [v], t.shape, f"{v.name}.shaped", shape=t.shape)

    def only_user(self, t: Tensor) -> Node | None:
        """Return the single reader of a source tensor that is not an output."""
        users = self.users.get(id(t), [])
        return users[0] if len(users) == 1 and not self.source.is_output(t) else None

    def where(self, stem: str) -> str:
        """How errors name the current layer."""
        return f"layer '{self.origin[-1] if self.origin else stem}'"
