"""Makes the pickles that pickle_test.cc decodes, with Python's own pickler.

protocolN.pkl holds one pickle after the other, protocolN.txt one line for each: the value in the
notation of `show`, which the test computes from what it has decoded. handmade.pkl holds opcodes
that CPython 3 reads but does not write. graph.pkl is one large value with many shared parts.
"""

import collections
import pickle
import pickletools
import random
import struct
from pathlib import Path

HERE = Path(__file__).parent


class Obj:
    """What a class of any checkpoint might be; pickled as `model.Obj`."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


class Args:
    """An object made with arguments by name: NEWOBJ_EX."""

    def __new__(cls, *args, **kwargs):
        self = object.__new__(cls)
        self.made_of = (args, kwargs)
        return self

    def __getnewargs_ex__(self):
        return self.made_of

    def __getstate__(self):
        return None


class Listy(list):
    pass


for cls in (Obj, Args, Listy):
    cls.__module__ = "model"
    import sys
    import types

    sys.modules.setdefault("model", types.ModuleType("model"))
    setattr(sys.modules["model"], cls.__name__, cls)


def show(value, protocol):
    """The value as the decoder has to see it."""

    def join(values):
        return ", ".join(show(v, protocol) for v in values)

    builtins = "__builtin__" if protocol < 3 else "builtins"
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return str(value)
        size = value.bit_length() // 8 + 1
        return "b" + value.to_bytes(size, "little", signed=True).hex()
    if isinstance(value, float):
        return f"{value:.17g}"
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, bytes):
        if protocol < 3:
            if not value:
                return "obj(<__builtin__.bytes>, ())"
            return f"obj(<_codecs.encode>, ('{value.decode('latin1')}', 'latin1'))"
        return "b" + value.hex()
    if isinstance(value, bytearray):
        if protocol >= 5:
            return "b" + value.hex()
        if not value:
            return f"obj(<{builtins}.bytearray>, ())"
        return f"obj(<{builtins}.bytearray>, ({show(bytes(value), protocol)}))"
    if isinstance(value, tuple):
        return f"({join(value)})"
    if type(value) is list:
        return f"[{join(value)}]"
    if isinstance(value, (set, frozenset)):
        if protocol >= 4:
            return "{" + ", ".join(sorted(show(v, protocol) for v in value)) + "}"
        return f"obj(<{builtins}.{type(value).__name__}>, ([{join(value)}]))"
    if type(value) is dict:
        return "{" + show_entries(value, protocol) + "}"
    if isinstance(value, collections.OrderedDict):
        entries = show_entries(value, protocol)
        shown = f", entries={{{entries}}}" if entries else ""
        return f"obj(<collections.OrderedDict>, (){shown})"
    if isinstance(value, Listy):
        state = f", state={show(value.__dict__, protocol)}" if value.__dict__ else ""
        return f"obj(<model.Listy>, (){state}, items=[{join(value)}])"
    if isinstance(value, Args):
        args, kwargs = value.made_of
        return f"obj(<model.Args>, ({join(args)}), kwargs={show(kwargs, protocol)})"
    if isinstance(value, Obj):
        return f"obj(<model.Obj>, (), state={show(value.__dict__, protocol)})"
    if isinstance(value, type):
        return f"<{value.__module__}.{value.__name__}>"
    raise TypeError(type(value))


def show_entries(value, protocol):
    return ", ".join(f"{show(k, protocol)}: {show(v, protocol)}" for k, v in value.items())


def cases(protocol):
    shared = ["shared", "parts"]
    listy = Listy([1, 2])
    listy.extra = "x"
    yield from (None, True, False, 0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**31)
    yield from (2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 0x1950A86A20F9469CFC6C, 2**4000)
    yield from (0.0, -1.5, 1e300, float("inf"), 0.1)
    yield from ("", "ascii", "caf\u00e9 \u65e5\u672c \U0001f600", "x" * 255, "y" * 256)
    yield from (b"", b"\x00\xff", b"z" * 300, bytearray(b""), bytearray(b"ab\xff"))
    yield from ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((), ((),)), tuple(range(40)))
    yield from ([], [1], [1, "a", [2.5, None]], list(range(2500)))
    yield from ({}, {"a": 1}, {"a": 1, "b": {"c": ()}, 3: None}, {i: str(i) for i in range(1500)})
    if protocol >= 4:
        yield from (set(), {1}, {"a", "b"}, frozenset(), frozenset((1, 2)))
        yield Args(1, name="n")
    else:
        yield from ({1}, frozenset((1,)))
    yield from (collections.OrderedDict(), collections.OrderedDict([("w", 1), ("b", 2)]), listy)
    yield (shared, shared, {"again": shared})
    yield Obj(name="o", part=Obj(inner=[1, 2]), cls=Obj)
    yield [Obj(n=i, common=shared) for i in range(300)]


HANDMADE = [
    # (pickle without PROTO and STOP, value that CPython makes of it)
    (b"U\x03abc", "abc"),
    (b"T\x03\x00\x00\x00abc", "abc"),
    (b"\x8d" + struct.pack("<Q", 2) + b"hi", "hi"),
    (b"\x8e" + struct.pack("<Q", 2) + b"hi", b"hi"),
    (b"\x8b\x01\x00\x00\x00\xff", -1),
    (b"\x8b\x00\x00\x00\x00", 0),
    (b"\x8a\x00", 0),
    (b"K\x01K\x020", 1),
    (b"K\x01(K\x02K\x031", 1),
    (b"K\x072\x86", (7, 7)),
    (b"]2\x86", ([], [])),
    (b"](K\x01K\x02e(e", [1, 2]),
    (b"}(K\x01K\x02u(u", {1: 2}),
    (b"]K\x01a\x940K\x02h\x00\x86", (2, [1])),
    (b"K\x01q\x030K\x02h\x03\x86", (2, 1)),
    (b"K\x01r\x03\x00\x00\x000K\x02j\x03\x00\x00\x00\x86", (2, 1)),
    (b"\x95\x02\x00\x00\x00\x00\x00\x00\x00K\x01", 1),
]


def graph(seed):
    """Objects in objects, with strings, lists and objects that several of them share."""
    rng = random.Random(seed)
    made = [["first"]]

    def make(depth):
        kind = rng.randrange(8)
        if made and kind < 2:
            return rng.choice(made)
        if depth == 0 or kind == 2:
            text, number = f"t{rng.randrange(50)}", rng.randrange(1 << 40)
            value = rng.choice(("text", text, number, 2.5, None))
        elif kind == 3:
            value = [make(depth - 1) for _ in range(rng.randrange(4))]
        elif kind == 4:
            value = tuple(make(depth - 1) for _ in range(rng.randrange(4)))
        elif kind == 5:
            value = {f"k{i}": make(depth - 1) for i in range(rng.randrange(4))}
        else:
            value = Obj(**{f"f{i}": make(depth - 1) for i in range(rng.randrange(1, 4))})
        if rng.random() < 0.05 and size(value) < 30:
            made.append(value)
        return value

    return [make(4) for _ in range(400)]


def size(value):
    return len(show(value, 4)) // 10


def write(name, pickles, lines):
    (HERE / f"{name}.pkl").write_bytes(b"".join(pickles))
    (HERE / f"{name}.txt").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def main():
    seen = set()
    for protocol in range(2, 6):
        values = list(cases(protocol))
        pickles = [pickle.dumps(value, protocol) for value in values]
        write(f"protocol{protocol}", pickles, [show(value, protocol) for value in values])
        seen |= {op.name for data in pickles for op, _, _ in pickletools.genops(data)}

    pickles, lines = [], []
    for body, value in HANDMADE:
        data = b"\x80\x04" + body + b"."
        assert pickle.loads(data, encoding="utf-8") == value, (body, pickle.loads(data))
        pickles.append(data)
        lines.append(show(value, 4))
        seen |= {op.name for op, _, _ in pickletools.genops(data)}
    write("handmade", pickles, lines)

    value = graph(7)
    write("graph", [pickle.dumps(value, 4)], [show(value, 4)])

    wanted = """MARK STOP POP POP_MARK DUP BINFLOAT BININT BININT1 BININT2 NONE REDUCE BINSTRING
        SHORT_BINSTRING BINUNICODE APPEND BUILD GLOBAL EMPTY_DICT APPENDS BINGET LONG_BINGET
        EMPTY_LIST BINPUT LONG_BINPUT SETITEM TUPLE EMPTY_TUPLE SETITEMS PROTO NEWOBJ TUPLE1
        TUPLE2 TUPLE3 NEWTRUE NEWFALSE LONG1 LONG4 BINBYTES SHORT_BINBYTES SHORT_BINUNICODE
        BINUNICODE8 BINBYTES8 EMPTY_SET ADDITEMS FROZENSET NEWOBJ_EX STACK_GLOBAL MEMOIZE FRAME
        BYTEARRAY8"""
    assert set(wanted.split()) <= seen, set(wanted.split()) - seen


if __name__ == "__main__":
    main()
