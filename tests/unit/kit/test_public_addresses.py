"""What is no address of the public internet is refused in every way it can be written as an address."""

import ipaddress

import pytest

from tenantry.kit.public_addresses import is_public

_PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255
192.0.0.1 192.0.0.8 192.0.0.9 192.0.0.10 192.0.0.170 192.0.0.255
192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250
240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:8.8.8.8
::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1:: 2001:10::1
2001:20::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::1 3fff::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0
2606:4700::1%1 fec0::1 ff02::1
"""
PRIVATE = _PRIVATE.split()
_PUBLIC = """
1.1.1.1 8.8.8.8 191.255.255.255 192.0.1.1 93.184.216.34 100.63.255.255 172.32.0.1 2606:4700::1111 2a00:1450:4001::200e
"""
PUBLIC = _PUBLIC.split()


@pytest.mark.parametrize("text", PRIVATE)
def test_an_address_that_is_not_the_public_internets_is_none(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_of_the_public_internet_is_one(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))
