import ipaddress

import pytest

from tenantry.engines.egress.addresses import find_addresses, may_dial
from tenantry.engines.egress.types import Barred, Decision, Event
from tenantry.kit.hosts import parse_host

PUBLIC = Decision(allowed=True)
PRIVATE = Decision(allowed=True, private=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
SOME = Decision(allowed=True, private=(ipaddress.ip_network("10.20.0.0/16"),))


@pytest.mark.parametrize(
    ("address", "public", "private", "named"),
    [
        ("93.184.216.34", True, True, True),
        ("2606:4700::1111", True, True, True),
        ("10.0.0.1", False, True, True),
        ("127.0.0.1", False, True, True),
        ("::1", False, True, True),
        ("100.64.0.1", False, True, True),
        ("fd00::1", False, True, True),
        ("169.254.1.1", False, False, True),
        ("fe80::1", False, False, True),
        ("240.0.0.1", False, False, True),
        ("169.254.169.254", False, False, True),
        ("fd00:ec2::254", False, False, True),
        ("100.100.100.200", False, False, True),
        ("168.63.129.16", False, False, True),
        ("::ffff:10.0.0.1", False, True, None),
        ("::ffff:169.254.169.254", False, False, None),
        ("64:ff9b::a00:1", False, True, None),
        ("64:ff9b::a9fe:a9fe", False, False, None),
        ("2002:a00:1::", False, False, False),
        ("0.0.0.0", False, False, False),  # noqa: S104 - to see it refused
        ("224.0.0.1", False, False, False),
        ("255.255.255.255", False, False, True),
        ("::", False, False, False),
    ],
)
def test_where_one_may_go(address: str, public: bool, private: bool, named: bool | None) -> None:
    read = ipaddress.ip_address(address)
    host = parse_host("db.corp.internal")
    assert may_dial(read, host=host, decision=PUBLIC) is public
    assert may_dial(read, host=host, decision=PRIVATE) is private
    if named is not None:
        assert may_dial(read, host=parse_host(address), decision=PRIVATE) is named
        assert may_dial(read, host=parse_host(address), decision=PUBLIC) is public


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("10.20.3.4", True),
        ("::ffff:10.20.3.4", True),
        ("64:ff9b::a14:304", True),
        ("10.21.0.1", False),
        ("::ffff:10.21.0.1", False),
        ("127.0.0.1", False),
        ("fd00::1", False),
        ("93.184.216.34", True),
    ],
)
def test_of_private_networks_those_that_are_listed(address: str, reached: bool) -> None:
    host = parse_host("db.corp.internal")
    assert may_dial(ipaddress.ip_address(address), host=host, decision=SOME) is reached


async def test_a_name_is_resolved_once_and_only_good_addresses_are_left() -> None:
    asked = []

    async def resolve(name: str) -> list[str]:
        asked.append(name)
        return ["10.0.0.1", "93.184.216.34", "::1", "93.184.216.34", "nonsense", "2606:4700::1111"]

    found = await find_addresses(parse_host("API.example.com."), PUBLIC, resolve)
    assert [str(address) for address in found] == ["93.184.216.34", "2606:4700::1111"]
    assert asked == ["api.example.com"]


async def test_an_address_is_not_resolved() -> None:
    async def resolve(name: str) -> list[str]:
        raise AssertionError(name)

    assert [str(one) for one in await find_addresses(parse_host("93.184.216.34"), PUBLIC, resolve)] == ["93.184.216.34"]
    with pytest.raises(Barred):
        await find_addresses(parse_host("10.0.0.1"), PUBLIC, resolve)


def test_a_line_is_one_line() -> None:
    event = Event(kind="dns", host="a\nb\x1b[31m", port=0, allowed=False, rule="r\r\nx", reason="\u202ey" + "z" * 5000)
    assert event.line().isprintable()
    assert len(event.line()) < 1500
