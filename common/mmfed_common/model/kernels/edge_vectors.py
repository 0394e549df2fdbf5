"""What the attention loops do for one edge or node, written in vectors of LLVM: Numba does not vectorise it.

LLVM turns the vectors into whatever the machine has. A row of a node holds ``heads × channels`` numbers, head
after head. Every function here takes two tuples, whose lengths are the numbers of heads and of channels (so
that they are constants of the compiled code), then pairs of an array with two dimensions, contiguous, and a
row number. Arrays may not overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending
from numba.core import types

from mmfed_common.model.kernels.plain import NEGATIVE_SLOPE

WIDEST = 64
FAST = ("contract", "reassoc", "nsz", "arcp")
Value = Any
"""A value of llvmlite, which has no types for checkers."""
intrinsic: Any = extending.intrinsic


class Lanes:
    """Emits vector instructions for rows of ``heads × channels`` numbers, in blocks of whole heads."""

    def __init__(self, context: Any, builder: Any, signature: Any, heads: int, channels: int) -> None:
        self.context, self.builder, self.signature = context, builder, signature
        self.heads, self.channels = heads, channels
        self.number = context.get_value_type(signature.args[2].dtype)
        fitting = [k for k in range(1, heads + 1) if heads % k == 0 and k * channels <= WIDEST]
        self.together = max(fitting, default=1)
        self.width = self.together * channels

    def blocks(self) -> Iterator[tuple[int, int]]:
        """First head and first number of each block."""
        for head in range(0, self.heads, self.together):
            yield head, head * self.channels

    def row(self, position: int, args: Any, width: int = 0) -> Value:
        """Where a row starts: argument ``position`` is the array, the next one the row's number.

        ``width``: numbers in a row, by default ``heads × channels``.
        """
        width = width or self.heads * self.channels
        array_type = self.signature.args[position]
        data = self.context.make_array(array_type)(self.context, self.builder, args[position]).data
        number = self.builder.zext(args[position + 1], ir.IntType(64))
        return self.builder.gep(data, [self.builder.mul(number, ir.IntType(64)(width))])

    def _at(self, pointer: Value, offset: int, width: int) -> Value:
        place = self.builder.gep(pointer, [ir.IntType(64)(offset)])
        return self.builder.bitcast(place, ir.VectorType(self.number, width).as_pointer())

    def load(self, pointer: Value, offset: int, width: int = 0) -> Value:
        """Read ``width`` numbers, by default a block; rows need not be aligned to vectors."""
        loaded = self.builder.load(self._at(pointer, offset, width or self.width))
        loaded.align = self.context.get_abi_sizeof(self.number)
        return loaded

    def store(self, value: Value, pointer: Value, offset: int) -> None:
        """Write all numbers of a vector."""
        stored = self.builder.store(value, self._at(pointer, offset, value.type.count))
        stored.align = self.context.get_abi_sizeof(self.number)

    def add(self, left: Value, right: Value) -> Value:
        """Sum."""
        return self.builder.fadd(left, right, flags=FAST)

    def multiply(self, left: Value, right: Value) -> Value:
        """Product."""
        return self.builder.fmul(left, right, flags=FAST)

    def constant(self, number: float) -> Value:
        """Give one number for every head."""
        return ir.Constant(ir.VectorType(self.number, self.heads), [number] * self.heads)

    def pick(self, value: Value, order: list[int]) -> Value:
        """Pick lanes."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)
        return self.builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)

    def spread(self, by_head: Value, first: int) -> Value:
        """Repeat each head's number over its channels, for the block that starts at a head."""
        return self.pick(by_head, [first + lane // self.channels for lane in range(self.width)])

    def part(self, by_head: Value, first: int) -> Value:
        """Numbers of the heads of the block that starts at a head."""
        return self.pick(by_head, list(range(first, first + self.together)))

    def fold(self, block: Value) -> Value:
        """Sum the channels of each head of a block, always in the same order."""
        left = self.channels
        while left > 1:
            factor = 2 if left % 2 == 0 else left
            count = block.type.count // factor
            parts = [self.pick(block, [lane * factor + i for lane in range(count)]) for i in range(factor)]
            block = parts[0]
            for part in parts[1:]:
                block = self.add(block, part)
            left //= factor
        return block

    def weigh(self, source_side: Value, target_side: Value) -> tuple[Value, Value]:
        """Attention weight of each head and whether its score is positive."""
        heads = self.heads
        a, high, low = (self.load(source_side, part * heads, heads) for part in range(3))
        b, up, down = (self.load(target_side, part * heads, heads) for part in range(3))
        positive = self.builder.fcmp_ordered(">", self.add(a, b), self.constant(0.0))
        weight = self.builder.select(positive, self.multiply(high, up), self.multiply(low, down))
        return weight, positive

    def add_scaled(self, by_head: Value, row: Value, result: Value) -> None:
        """``result += by_head × row``."""
        for head, offset in self.blocks():
            scaled = self.multiply(self.spread(by_head, head), self.load(row, offset))
            self.store(self.add(self.load(result, offset), scaled), result, offset)


def _lanes(context: Any, builder: Any, signature: Any) -> Lanes:
    heads, channels = (signature.args[position].count for position in (0, 1))
    return Lanes(context, builder, signature, heads, channels)


@intrinsic
def dot_heads(typing_context, heads, channels, x, i, y, j, out, k):  # type: ignore[no-untyped-def]
    """Product of two rows, summed within each head, into a row of ``out``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        lanes = _lanes(context, builder, signature)
        left, right, result = lanes.row(2, args), lanes.row(4, args), lanes.row(6, args, lanes.heads)
        for head, offset in lanes.blocks():
            product = lanes.multiply(lanes.load(left, offset), lanes.load(right, offset))
            lanes.store(lanes.fold(product), result, head)
        return context.get_dummy_value()

    return types.void(heads, channels, x, i, y, j, out, k), generate


@intrinsic
def add_scaled(typing_context, heads, channels, scale, i, x, j, out, k):  # type: ignore[no-untyped-def]
    """Add a row of ``x``, each head times its own number in a row of ``scale``, to a row of ``out``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        lanes = _lanes(context, builder, signature)
        by_head = lanes.load(lanes.row(2, args, lanes.heads), 0, lanes.heads)
        lanes.add_scaled(by_head, lanes.row(4, args), lanes.row(6, args))
        return context.get_dummy_value()

    return types.void(heads, channels, scale, i, x, j, out, k), generate


@intrinsic
def edge_forward(  # type: ignore[no-untyped-def]
    typing_context, heads, channels, values, o, of_source, p, of_target, t, total, u, mixed, v
):
    """Add the weight of one edge to ``total`` and the weighted row of values to ``mixed``.

    A row of ``of_source`` holds half a score and its two exponentials, one of ``of_target`` the other half
    and the two factors, each ``3 × heads`` numbers.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        lanes = _lanes(context, builder, signature)
        weight, _ = lanes.weigh(lanes.row(4, args, 3 * lanes.heads), lanes.row(6, args, 3 * lanes.heads))
        sums = lanes.row(8, args, lanes.heads)
        lanes.store(lanes.add(lanes.load(sums, 0, lanes.heads), weight), sums, 0)
        lanes.add_scaled(weight, lanes.row(2, args), lanes.row(10, args))
        return context.get_dummy_value()

    arguments = (heads, channels, values, o, of_source, p, of_target, t, total, u, mixed, v)
    return types.void(*arguments), generate


@intrinsic
def edge_backward(  # type: ignore[no-untyped-def]
    typing_context, heads, channels, values, o, of_source, p, of_target, t, grad, u, mean, i,
    grad_values, q, grad_a, r, grad_b, v,
):  # fmt: skip
    """Backward pass of one edge; ``mean``: by head, the product of the target's gradient with its output."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        """Emit the vector code of one edge's backward pass."""
        lanes = _lanes(context, builder, signature)
        row, given, grad_row = (lanes.row(position, args) for position in (2, 8, 12))
        means, to_source, to_target = (lanes.row(position, args, lanes.heads) for position in (10, 14, 16))
        sides = (lanes.row(position, args, 3 * lanes.heads) for position in (4, 6))
        weight, positive = lanes.weigh(*sides)
        slope = builder.select(positive, lanes.constant(1.0), lanes.constant(NEGATIVE_SLOPE))
        sloped = lanes.multiply(weight, slope)
        for head, offset in lanes.blocks():
            gradient = lanes.load(given, offset)
            product = lanes.fold(lanes.multiply(gradient, lanes.load(row, offset)))
            scaled = lanes.multiply(lanes.spread(weight, head), gradient)
            lanes.store(lanes.add(lanes.load(grad_row, offset), scaled), grad_row, offset)
            centred = builder.fsub(product, lanes.load(means, head, lanes.together), flags=FAST)
            change = lanes.multiply(lanes.part(sloped, head), centred)
            for pointer in (to_source, to_target):
                lanes.store(lanes.add(lanes.load(pointer, head, lanes.together), change), pointer, head)
        return context.get_dummy_value()

    arguments = (heads, channels, values, o, of_source, p, of_target, t, grad, u, mean, i)
    return types.void(*arguments, grad_values, q, grad_a, r, grad_b, v), generate
