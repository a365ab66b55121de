"""Files that a stranger could make: changed bytes, and structures that a format allows and no honest program writes.

Every function takes a seeded `random.Random` and returns a file's content.
"""

import gzip
import io
import json
import pickletools
import random
import struct
import tarfile
import warnings
import zipfile

import h5py
import numpy as np

warnings.filterwarnings("ignore", "Duplicate name")  # of zipfile: they are meant

_TOKENS = [
    b"\x00",
    b"\xff" * 8,
    b"!!python/object:os.system",
    b"cos\nsystem\n",
    b"99999999999999",
    b"&a [*a,*a]",
    b"nan",
]
_NUMBERS = [0, 1, -1, 2**31, 2**63, 10**400, 1e308, -1e308, float("nan"), float("inf"), True, None, 0.5]
_WORDS = ["", "finished", "running", "\ud800", "\x1b[2J", "\u202eabc", "|", "<script>", "a" * 5000, "none", "cifar10"]


def mutate(content: bytes, rng: random.Random) -> bytes:
    """A copy with one to four changes: cut off, bits turned, bytes replaced, repeated, or something odd put in."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(changed) + 1), rng.randint(1, 64)
        match rng.randrange(5):
            case 0:
                del changed[place:]
            case 1 if place < len(changed):
                changed[place] ^= 1 << rng.randrange(8)
            case 2:
                changed[place : place + length] = rng.randbytes(length)
            case 3:
                changed[place:place] = changed[place : place + length] * rng.randint(1, 50)
            case _:
                changed[place:place] = rng.choice(_TOKENS)
    return bytes(changed)


# ---- text


def odd_yaml(rng: random.Random) -> bytes:
    """Random tokens of YAML with known keys, deep, long or many."""
    tokens = ["epochs: ", "seed: ", "model:\n  ", "name: ", "optimizer: {", "[", "]", "}", "- ", "? ", ": ", ", ", "\n"]
    tokens += [
        "&a ",
        "*a ",
        "<<: ",
        "!!int ",
        "!!binary ",
        "!!set ",
        "'",
        '"',
        "|\n",
        ">\n",
        "#",
        "%YAML 1.1\n",
        "---\n",
    ]
    tokens += [
        "9",
        "0x",
        "1_0",
        "1:2:3",
        "1e5",
        ".inf",
        ".nan",
        "~",
        "yes",
        "2022-99-99",
        "\\e",
        "\u202e",
        "extends: plain",
    ]
    text = "".join(rng.choice(tokens) * rng.choice([1, 1, 1, 2, 30]) for _ in range(rng.randint(1, 60)))
    if rng.random() < 0.2:  # one thing again and again
        text = rng.choice(tokens) * rng.choice([100, 3000, 100_000])
    if rng.random() < 0.1:
        text = "\n".join(f"k{number}: 1" for number in range(rng.choice([400, 60_000])))
    return text.encode("utf-8", "surrogatepass")


def odd_value(rng: random.Random, depth: int = 3):
    """A value of JSON, of odd numbers and words, nested."""
    kind = rng.randrange(6 if depth else 4)
    if kind < 2:
        return rng.choice(_NUMBERS)
    if kind < 4:
        return rng.choice(_WORDS)
    values = [odd_value(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    return values if kind == 4 else {rng.choice(_WORDS): value for value in values}


def odd_json(sample: dict, rng: random.Random) -> bytes:
    """A mapping in which some values are replaced by odd ones, or gone; now and then deep brackets alone."""
    if rng.random() < 0.1:
        return (rng.choice(["[", '{"a":', "[[],"]) * rng.choice([100, 5000, 200_000])).encode()
    changed = dict(sample)
    for _ in range(rng.randint(1, 3)):
        key = rng.choice([*sample, *_WORDS])
        changed[key] = odd_value(rng)
        if rng.random() < 0.2:
            del changed[key]
    return json.dumps(changed).encode("utf-8", "surrogatepass")


def odd_csv(sample: bytes, rng: random.Random) -> bytes:
    """A table in which some cells are odd, or rows stand there too often."""
    rows = [line.split(",") for line in sample.decode().splitlines()]
    for _ in range(rng.randint(1, 4)):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = str(rng.choice([*_NUMBERS, *_WORDS]))
        if rng.random() < 0.2:
            rows += rows[1:100] * rng.choice([1, 10, 40])
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


# ---- archives


def odd_npy(rng: random.Random) -> bytes:
    """An array whose header and content need not fit."""
    shape = tuple(rng.choice([0, 1, 2, 10, 100, -1, 10**6, 10**10, 2**63, True]) for _ in range(rng.randint(0, 4)))
    kind = rng.choice(["<f2", "<f4", "<f8", "|u1", "<i8", "|O", "|S0", "|V8", "<U3", "<M8[s]", "|S9999999", "x"])
    header = repr({"descr": kind, "fortran_order": rng.random() < 0.2, "shape": shape})
    if rng.random() < 0.1:
        header = rng.choice(["(" * 5000, "{" * 100, header * 100, header.replace("}", ", 'more': 1}")])
    text = header.encode().ljust(rng.choice([0, 117, 9000])) + b"\n"
    version = rng.choice([b"\1\0", b"\2\0", b"\3\0", b"\7\7"])
    length = struct.pack("<H" if version == b"\1\0" else "<I", rng.choice([len(text)] * 9 + [2**16 - 1]))
    return b"\x93NUMPY" + version + length + text + bytes(rng.choice([0, 8, 80, 1000]))


def odd_zip(members: dict[str, bytes], rng: random.Random) -> bytes:
    """An archive of these members, some twice, packed in any way, with sizes that may lie."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
            for _ in range(rng.choice([1, 1, 1, 1, 2])):
                archive.writestr(name, data, method)
        if rng.random() < 0.1:
            archive.comment = b"comment"
        for member in archive.infolist():
            if rng.random() < 0.1:
                member.file_size = rng.choice([0, member.file_size // 2, member.file_size * 3, 2**31])
    if rng.random() < 0.02:  # many members, none of them anything
        with zipfile.ZipFile(content, "w") as archive:
            for number in range(rng.choice([1000, 30_000])):
                archive.writestr(f"{number}.npy", b"")
    return content.getvalue()


def odd_npz(sample: bytes, rng: random.Random) -> bytes:
    """An .npz archive in which some arrays are odd, gone or more; now and then one that unpacks to 4 GiB."""
    with zipfile.ZipFile(io.BytesIO(sample)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()[:6]}
    for _ in range(rng.randint(1, 3)):
        members[rng.choice([*members, "more.npy", "../out.npy"])] = odd_npy(rng)
    if rng.random() < 0.2:
        del members[rng.choice(list(members))]
    content = odd_zip(members, rng)
    if rng.random() < 0.05:
        content = bomb(next(iter(members), "logits.npy"))
    return content


def bomb(name: str, size: int = 2**32 - 2**20, _made: dict = {}) -> bytes:  # noqa: B006 (made once)
    """A zip archive of 4 MB whose one member unpacks to 4 GiB of zeros."""
    if name not in _made:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(name, bytes(2**20))  # the headers say more than there is: that is what must be believed
            archive.infolist()[0].file_size = size
        _made[name] = content.getvalue()
    return _made[name]


def odd_keras(sample: bytes, rng: random.Random) -> bytes:
    """A .keras archive with changed weights: groups that hold themselves, links, holes, filters, odd numbers."""
    with zipfile.ZipFile(io.BytesIO(sample)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if rng.random() < 0.2:
        description = json.loads(members["config.json"])
        description[rng.choice(list(description))] = odd_value(rng)
        members["config.json"] = json.dumps(description).encode("utf-8", "surrogatepass")
    elif rng.random() < 0.15:
        members["config.json"] = b"[" * rng.choice([1000, 10**6]) + b"]"
    content = io.BytesIO(members["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        for _ in range(rng.randint(1, 3)):
            _change(file, rng)
    members["model.weights.h5"] = content.getvalue()
    return odd_zip(members, rng)


def _change(file: h5py.File, rng: random.Random) -> None:
    names: list[str] = []
    file.visit(names.append)
    groups = [file, *(file[name] for name in names if isinstance(file[name], h5py.Group))]
    group, name = rng.choice(groups), f"odd{rng.randrange(10**9)}"
    arrays = [each for each in names if isinstance(file[each], h5py.Dataset)]
    match rng.randrange(9):
        case 0:
            group[name] = rng.choice(groups)  # a hard link, to a group above perhaps
        case 1:
            group[name] = h5py.SoftLink(rng.choice(["/nowhere", "/", "."]))
        case 2:
            group[name] = h5py.ExternalLink("/etc/passwd", "/")
        case 3:  # doubles with every level
            for level in range(rng.choice([5, 40])):
                below = group.create_group(f"{name}-{level}")
                below["a"], below["b"] = group, group
                group = below
        case 4:
            group.create_dataset(name, rng.choice([(10**9,), (10**5, 10**5), (0,)]), "f8")
        case 5:
            group.create_dataset(name, (10**8,), "f4", chunks=(10**7,), compression="gzip", fillvalue=1)
        case 6 if arrays:
            array = file[rng.choice(arrays)]
            if array.size:
                array[...] = rng.choice([np.nan, np.inf, 0])
        case 7 if arrays:
            del file[rng.choice(arrays)]
        case _:
            group.create_dataset(name, data=rng.choice([b"text", [True], np.zeros(3, "c8")]))


def odd_tar(batch: bytes, rng: random.Random) -> bytes:
    """A packed tar archive with members of any type, long names, extended headers that lie, and bytes changed."""
    content = io.BytesIO()
    kinds = [tarfile.REGTYPE] * 6 + [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.FIFOTYPE,
    ]
    with tarfile.open(fileobj=content, mode="w", format=rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as tar:
        for name in rng.choices(["data_batch_1", "data_batch_2", "test_batch", "../out", "a" * 300, "/etc/x"], k=4):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.type = rng.choice(kinds)
            member.linkname = "test_batch" if member.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            member.size = len(batch) if member.type == tarfile.REGTYPE else 0
            if rng.random() < 0.3:
                key = rng.choice(
                    ["size", "path", "GNU.sparse.map", "GNU.sparse.major", "GNU.sparse.size", "hdrcharset"]
                )
                member.pax_headers = {key: rng.choice(["-1", "9" * 30, "x", "1,2,3", "1", ""])}
            tar.addfile(member, io.BytesIO(batch) if member.size else None)
    changed = content.getvalue()
    if rng.random() < 0.5:  # a header, not the content
        place = 512 * rng.randrange(len(changed) // 512)
        changed = changed[:place] + mutate(changed[place : place + 512], rng) + changed[place + 512 :]
    return gzip.compress(changed, 1)


def odd_pickle(sample: bytes, rng: random.Random) -> bytes:
    """A pickle in which random operations stand between honest ones, some of them again and again."""
    places = [place for _, _, place in pickletools.genops(sample)]
    place = rng.choice(places)
    codes = [code.code.encode("latin-1") for code in pickletools.opcodes]
    arguments = [b"", b"\1", b"\4abcd", b"\xff" * 4, b"\0\0\0\x40", b"9999999999\n", b"labels\n", b"\xff" * 8]
    odd = b"".join(rng.choice(codes) + rng.choice(arguments) for _ in range(rng.randint(1, 8)))
    return sample[:place] + odd * rng.choice([1, 1, 2, 1000]) + sample[rng.choice([place, *places]) :]
