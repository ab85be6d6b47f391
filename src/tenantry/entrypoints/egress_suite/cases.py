"""What is tried through the gateway, and what must come of it. A case that is let pass shows that the others could be.

`api`, `db` and `lurk` below `.example.com` are allowed, each at port 80 and PLAIN, `api` at 443 too, and all below
`wild.example.com`, at PLAIN; `lurk` leads wherever a case wishes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tenantry.engines.jail.escape.cases import Case

TOLD: Final = "With a network: no way out of it but by what is allowed, whatever it is called, until it is narrowed."
PLAIN: Final = 8080
API, OTHER, LURK, WILD = "api.example.com", "other.example.com", "lurk.example.com", "wild.example.com"
PROXY: Final = ("127.0.0.1", 3128)
ALERT: Final = "15030100020231"
_NO_ROUTE: Final = (
    "ENETUNREACH",
    "ECONNREFUSED",
    "EADDRNOTAVAIL",
    "EHOSTUNREACH",
    "gaierror",
    "EINVAL",
    "TimeoutError",
)
_REFUSED: Final = (*_NO_ROUTE, "400", "403", "431", "closed", "ECONNRESET", ALERT)
_NOWHERE: Final = "0.0.0.0"  # noqa: S104 - to see it refused
#: Directly, or by the proxy; none leads to a listener of the host.
ADDRESSES: Final = {
    "loopback": "127.0.0.1", "short_loopback": "127.1", "hexadecimal": "0x7f000001", "decimal": "2130706433",
    "octal": "0177.0.0.1", "unspecified": _NOWHERE, "another_loopback": "127.1.0.77", "private_10": "10.0.0.1",
    "private_192": "192.168.0.1", "bridge": "172.17.0.1", "carrier": "100.64.0.1", "metadata": "169.254.169.254",
    "metadata_alibaba": "100.100.100.200", "metadata_azure": "168.63.129.16", "public": "1.1.1.1",
}  # fmt: skip
_BRACKETED: Final = {"loopback_6": "[::1]", "mapped": "[::ffff:127.0.0.1]", "translated": "[64:ff9b::7f00:1]",
                     "metadata_6": "[fd00:ec2::254]", "dotted_end": "127.0.0.1.", "localhost": "localhost"}  # fmt: skip
#: Where a name may lead that is allowed.
LURKING: Final = {
    "loopback": "127.0.0.1", "private": "10.1.2.3", "bridge": "172.17.0.1", "link_local": "169.254.0.9",
    "metadata": "169.254.169.254", "metadata_alibaba": "100.100.100.200", "metadata_azure": "168.63.129.16",
    "carrier": "100.64.0.1", "unspecified": _NOWHERE, "broadcast": "255.255.255.255", "multicast": "224.0.0.1",
    "loopback_6": "::1", "link_local_6": "fe80::1", "unique_local_6": "fd00::1", "metadata_6": "fd00:ec2::254",
    "mapped": "::ffff:127.0.0.1", "translated": "64:ff9b::7f00:1", "six_to_four": "2002:7f00:1::", "zone": "fe80::1%lo",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Try:
    """One line of the plan. `accept` are the words that hold; `passes`: its mark must arrive outside, else must not.

    `leads`: where `lurk` leads to meanwhile. `web`: it needs an outside at ports 80 and 443 of this host.
    """

    name: str
    kind: str
    arguments: tuple[object, ...]
    accept: tuple[str, ...] = _REFUSED
    passes: bool = False
    leads: str = ""
    web: bool = False

    @property
    def case(self) -> Case:
        expected = "let pass, to show that the others could be" if self.passes else "refused, and nothing arrives"
        return Case("egress", self.name, expected, needs=frozenset({"root"} if self.web else ()))


def request(host: str, *fields: str, body: str = "", path: str = "/", method: str = "GET") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", body])


def mark(name: str) -> str:
    """Make a field by which the arrival of a request is seen."""
    return f"X-Case: {name}."


def tries() -> tuple[Try, ...]:
    return (*_names(), *_addresses(), *_leading(), *_tls(), *_http(), *_proxy(), *_ports(), *_narrowing())


def _names() -> Iterator[Try]:
    yield Try("name_allowed", "ask", (API, 1), ("0 1",))
    yield Try("name_below_a_wildcard", "ask", (f"a.b.{WILD}", 1), ("0 1",))
    for name, host in {
        "not_listed": OTHER, "below_an_allowed_one": f"x.{API}", "above": "example.com",
        "with_it_as_a_prefix": f"{API}.evil.test",
        "of_the_wildcard_itself": WILD, "that_ends_like_the_wildcard": f"evil{WILD}", "of_this_machine": "localhost",
        "of_metadata": "metadata.google.internal", "reverse": "1.1.0.127.in-addr.arpa", "an_address": "127.0.0.1",
        "that_carries_data": f"{'0123456789abcdef' * 3}.{'fedcba98' * 6}.{OTHER}",
        "that_carries_data_to_an_allowed_one": f"{'secret' * 8}.{API}",
    }.items():  # fmt: skip
        yield Try(f"name_{name}", "ask", (host, 1), ("3 0",))
    yield Try("name_by_a_stream", "ask", (OTHER, 1, True), ("3 0",))
    for kind, number in {"aaaa": 28, "svcb": 64, "https": 65}.items():
        yield Try(f"records_{kind}", "ask", (API, number), ("0 0",))
    for kind, number in {"txt": 16, "any": 255, "mx": 15, "ns": 2, "srv": 33, "transfer": 252, "null": 10}.items():
        yield Try(f"records_{kind}", "ask", (API, number), ("3 0",))
    for place in ("1.1.1.1", "127.1.0.1", "8.8.8.8"):
        yield Try(f"datagram_to_{place}", "datagram", (place, 53))
    yield Try("datagram_to_another_port", "datagram", ("127.0.0.1", 443))


def _addresses() -> Iterator[Try]:
    for name, address in ADDRESSES.items():
        for port in (80, PLAIN):
            case = f"address_{name}_{port}"
            yield Try(case, "talk", (address, port, request(address, mark(case))))
        yield Try(f"address_{name}_443", "tls", (address, 443, API))
    for name, address in (ADDRESSES | _BRACKETED).items():
        case = f"proxy_{name}"
        whole = request(address, mark(case), path=f"http://{address}/")
        yield Try(case, "talk", (*PROXY, whole), ("400", "403"))
        yield Try(f"tunnel_{name}", "tunnel", (f"{address}:{PLAIN}", mark(f"tunnel_{name}")), ("400", "403"))


def _leading() -> Iterator[Try]:
    for name, address in LURKING.items():
        case = f"leading_to_{name}"
        yield Try(case, "talk", (LURK, 80, request(LURK, mark(case))), ("403",), leads=address)
    yield Try("rebound", "talk", (LURK, 80, request(LURK, mark("rebound"))), ("403",), leads="rebinding")


def _tls() -> Iterator[Try]:
    for name, said in {"another": OTHER, "below": f"x.{API}", "none": "", "above": "example.com"}.items():
        yield Try(f"hello_for_{name}", "tls", (API, 443, said), (ALERT,))
    yield Try("hello_that_hides", "tls", (API, 443, API, 0xFE0D), (ALERT,))
    yield Try("hello_that_hides_as_before", "tls", (API, 443, API, 0xFFCE), (ALERT,))
    for name, text in {"http": request(API), "ssh": "SSH-2.0-x\r\n", "zeros": "\0" * 100}.items():
        yield Try(f"no_hello_{name}", "talk", (API, 443, text), (ALERT,))


def _http() -> Iterator[Try]:
    hidden = request(OTHER, mark("smuggled"))
    ended = "0\r\n\r\n" + hidden
    for name, text in {
        "two_lengths": request(
            API, f"Content-Length: {len(ended)}", "Transfer-Encoding: chunked", body=ended, method="POST"
        ),
        "length_twice": request(API, "Content-Length: 0", f"Content-Length: {len(hidden)}", body=hidden, method="POST"),
        "signed_length": request(API, "Content-Length: +5", body="12345", method="POST"),
        "underscore": request(API, "Content_Length: 5", method="POST"),
        "coding": request(API, "Transfer-Encoding: xchunked", body=ended, method="POST"),
        "space_before_colon": request(API, "Transfer-Encoding : chunked", method="POST"),
        "host_twice": request(API, f"Host: {OTHER}"), "no_host": "GET / HTTP/1.1\r\n\r\n",
        "another_host": request(OTHER), "another_address": request(API, path=f"http://{OTHER}/"),
        "another_port": request(f"{API}:81"),
        "folded": request(API, "X: a", f" Host: {OTHER}"), "bare_line_feed": request(API, f"X: a\nHost: {OTHER}"),
        "bare_return": request(API, f"X: a\rHost: {OTHER}"), "nul": request(API, "X: a\0b"),
        "tunnel": f"CONNECT {API}:80 HTTP/1.1\r\nHost: {API}\r\n\r\n", "upgrade": request(API, "Upgrade: websocket"),
        "http_2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http_0_9": "GET /\r\n\r\n",
        "long": request(API, f"X: {'x' * 40000}"),
        "https": request(API, path=f"https://{API}/"), "absolute_with_user": request(API, path=f"http://u@{API}/"),
    }.items():  # fmt: skip
        yield Try(f"request_{name}", "talk", (API, 80, text), ("400", "403", "431"))
    first, then = request(API, mark("request_first")), request(OTHER, mark("request_later"))
    yield Try("request_first", "talk", (API, 80, first), ("200",), passes=True, web=True)
    yield Try("request_later", "talk", (API, 80, request(API), then), ("403",), web=True)
    chunk = request(API, "Transfer-Encoding: chunked", body=f"5;x\r\nhello\r\n0\r\n\r\n{hidden}", method="POST")
    yield Try("request_chunk_extension", "talk", (API, 80, chunk), ("200", "400", "403", "closed"), web=True)


def _proxy() -> Iterator[Try]:
    yield Try("tunnel_allowed", "tunnel", (f"{API}:{PLAIN}", mark("tunnel_allowed")), ("200",), passes=True)
    yield Try("tunnel_denied", "tunnel", (f"{OTHER}:{PLAIN}", mark("tunnel_denied")), ("403",))
    yield Try("tunnel_tls_for_another", "tunnel", (f"{API}:443", f"tls:{OTHER}"), (ALERT,), web=True)
    for_another = request(OTHER, mark("tunnel_http_for_another"))
    yield Try("tunnel_http_for_another", "tunnel", (f"{API}:80", for_another), ("403",), web=True)
    body = f"CONNECT {API}:443 HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
    yield Try("tunnel_with_a_body", "talk", (*PROXY, body), ("400",), web=True)
    yield Try("tunnel_to_a_denied_port", "tunnel", (f"{API}:22", "x"), ("403",))
    for name, text in {
        "tunnel_with_another_host": f"CONNECT {API}:443 HTTP/1.1\r\nHost: {OTHER}:443\r\n\r\n",
        "proxy_with_another_host": request(OTHER, path=f"http://{API}/"), "proxy_for_a_path": request(API),
        "proxy_for_https": request(API, path=f"https://{API}/"),
    }.items():  # fmt: skip
        yield Try(name, "talk", (*PROXY, text), ("400",))


def _ports() -> Iterator[Try]:
    yield Try("port_allowed", "talk", (API, PLAIN, mark("port_allowed")), ("200",), passes=True)
    yield Try(
        "port_of_another_rule", "talk", (f"a.{WILD}", 80, request(f"a.{WILD}", mark("port_of_another_rule"))), ("403",)
    )
    yield Try("port_443_of_another_rule", "tls", (f"a.{WILD}", 443, f"a.{WILD}"), (ALERT,))
    for port in (22, 25, 445, 2375, 5432, 6379):
        yield Try(f"port_{port}", "talk", (API, port, "x"), _NO_ROUTE)


def _narrowing() -> Iterator[Try]:
    """Come last: from the moment it is held, nothing is allowed."""
    yield Try("narrowed_while_open", "hold", (API, PLAIN, mark("narrowed_before")), ("closed", "ECONNRESET"))
    yield Try("narrowed_later", "talk", (API, PLAIN, mark("narrowed_later")))
    yield Try("narrowed_name", "ask", (API, 1), ("3 0",))


TRIES: Final = tries()
CASES: Final = tuple(one.case for one in TRIES)
