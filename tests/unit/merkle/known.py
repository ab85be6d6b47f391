"""What others have computed: the test tree of Certificate Transparency, and the tree as RFC 9162 §2.1.1 defines it."""

from collections.abc import Sequence

from tenantry.engines.merkle.proofs import Plan
from tenantry.engines.merkle.tree import EMPTY_ROOT, Frontier, leaf_hash, node_hash

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ENTRIES = [
    bytes.fromhex(entry)
    for entry in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    bytes.fromhex(root)
    for root in (
        EMPTY,
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
_A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
_B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
_C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
_D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
_E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
_F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
_G = "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
INCLUSIONS: list[tuple[int, int, list[str]]] = [
    (0, 1, []),
    (0, 8, [_A, _B, _C]),
    (5, 8, [_D, _E, ROOTS[4].hex()]),
    (2, 3, [ROOTS[2].hex()]),
    (1, 5, [ROOTS[1].hex(), _B, _D]),
]
CONSISTENCIES: list[tuple[int, int, list[str]]] = [
    (1, 1, []),
    (1, 8, [_A, _B, _C]),
    (6, 8, [_F, _E, ROOTS[4].hex()]),
    (2, 5, [_B, _D]),
    (6, 7, [_F, _G, ROOTS[4].hex()]),
]


def defined_root(leaves: Sequence[bytes]) -> bytes:
    """MTH, written as it is defined."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(defined_root(leaves[:split]), defined_root(leaves[split:]))


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(b"entry %d" % number) for number in range(count)]


class Log:
    """A log as its keeper has one: hashes by level, appended in batches, and what was read of them."""

    def __init__(self, leaves: Sequence[bytes], *, batch: int = 1000) -> None:
        self.levels: dict[int, list[bytes]] = {0: list(leaves)}
        self.frontier = Frontier()
        self.read: list[int] = []
        for start in range(0, len(leaves), batch):
            appended = self.frontier.append_many(leaves[start : start + batch])
            self.frontier = appended.frontier
            for tile in appended.tiles:
                level = self.levels.setdefault(tile.level, [])
                assert len(level) == tile.start
                level += tile.hashes

    def answer(self, plan: Plan) -> tuple[bytes, ...]:
        self.read = [one.stop - one.start for one in plan.ranges]
        return plan.compute([self.levels[one.level][one.start : one.stop] for one in plan.ranges])

    def root(self, size: int) -> bytes:
        return defined_root(self.levels[0][:size])
