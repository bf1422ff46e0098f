"""Lists of hosts that a workspace may reach: how they are read, and what they admit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.host_list import MAX_HOSTS, HostList, Target, read_target
from molecule_grpc.kernel.errors import Invalid

LIST = HostList.read(
    ["api.example.com", "db.example.com:5432", "*.cdn.example", "*.x.example:8443", "9.9.9.9",
     "[2606:4700::1]:443"]
)  # fmt: skip

# The authority that a client writes, and whether the list lets it through. 443 where none is named.
ADMITTED = [
    "api.example.com", "api.example.com:443", "api.example.com:80", "API.Example.COM:443",
    "api.example.com.:443", "db.example.com:5432", "a.cdn.example", "a.b.cdn.example:80",
    "q.x.example:8443", "9.9.9.9:443", "[2606:4700::1]", "[2606:4700:0:0:0:0:0:1]:443",
]  # fmt: skip
REFUSED = [
    "api.example.com:22", "db.example.com", "db.example.com:443", "cdn.example", "evilcdn.example",
    "cdn.example.evil.com", "q.x.example", "x.example:8443", "9.9.9.9:53", "[2606:4700::1]:80",
    "[::ffff:9.9.9.9]", "[::9.9.9.9]", "example.com", "xapi.example.com",
    "api.example.com.evil.com",
]  # fmt: skip
MALFORMED = [
    "", ":443", "a b", "a/b", "user@api.example.com", "user:pw@api.example.com:443",
    "api.example.com:", "api.example.com:0", "api.example.com:65536", "api.example.com:0443",
    "api.example.com:+443", "api.example.com:\u0664\u0664\u0663", "api.example.com..",
    ".api.example.com", "api..example.com", "*.cdn.example",
    "2606:4700::1", "[2606:4700::1", "[2606:4700::1]443", "[fe80::1%eth0]:443", "[9.9.9.9]",
    # Other spellings of 9.9.9.9.
    "151587081", "0x09090909", "9.9.2313", "011.011.011.011", "0x9.9.9.9", "9.9.9.9.:x", "99.9",
    "api.example.com\r\nhost: x", "\uff41pi.example.com", "api.example.com\0",
    "a" * 64 + ".example",
    ".".join(["a" * 60] * 5),
]  # fmt: skip


@pytest.mark.parametrize("authority", ADMITTED)
def test_what_the_list_names_is_admitted(authority: str) -> None:
    assert LIST.admits(read_target(authority, 443))


@pytest.mark.parametrize("authority", REFUSED)
def test_what_the_list_does_not_name_is_refused(authority: str) -> None:
    assert not LIST.admits(read_target(authority, 443))


@pytest.mark.parametrize("authority", MALFORMED)
def test_what_is_no_host_is_not_read(authority: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_target(authority, 443)


def test_a_tunnel_must_name_its_port() -> None:
    with pytest.raises(ValueError, match="port"):
        read_target("api.example.com")


@pytest.mark.parametrize(
    "entry",
    [
        *MALFORMED[:1], "*", "*.", "*.*.example", "a.*.example", "*example", "*.9.9.9.9",
        "*.[2606:4700::1]", "http://api.example.com", "api.example.com/path", "10.0.0.0/8",
        "münchen.example", "user@host.example", "host.example:x", "host.example:0", 7, None, ["a"],
        {"host": "a"},
    ],
)  # fmt: skip
def test_an_entry_that_is_no_host_is_named_by_the_refusal(entry: object) -> None:
    with pytest.raises(Invalid) as caught:
        HostList.read(["good.example", entry])
    assert [field for field, _ in caught.value.violations] == ["egress[1]"]


@pytest.mark.parametrize("given", [None, 7, True, "", "OPEN", "host.example", {}, {"hosts": []}])
def test_only_open_none_and_lists_are_lists(given: object) -> None:
    with pytest.raises(Invalid) as caught:
        HostList.read(given, "defaults.egress")
    assert [field for field, _ in caught.value.violations] == ["defaults.egress"]


def test_open_none_and_lists_come_back_as_they_were_given() -> None:
    assert HostList.read("open").as_given == "open"
    assert HostList.read("none").as_given == HostList.read([]).as_given == "none"
    assert not HostList.read("none").admits(Target("a.example", 443))
    assert HostList.read("open").admits(Target("a.example", 22))
    given = ["A.Example.", "a.example", " *.B.example:8080 ", "[2606:4700:0::1]"]
    read = HostList.read(given)
    assert read.as_given == ["a.example", "*.b.example:8080", "[2606:4700::1]"]
    for each in (read, HostList.read("open"), HostList.read("none")):
        assert HostList.stored(each.as_stored) == each


def test_a_list_is_bounded() -> None:
    hosts = [f"h{number}.example" for number in range(MAX_HOSTS)]
    assert HostList.read(hosts).as_given == hosts
    with pytest.raises(Invalid):
        HostList.read([*hosts, "one-more.example"])


_LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
_HOSTS = st.lists(_LABELS, min_size=1, max_size=4).map(".".join)


@given(_HOSTS, _HOSTS)
def test_a_list_of_one_host_admits_no_other(listed: str, asked: str) -> None:
    assert HostList.read([listed]).admits(Target(asked, 443)) == (asked == listed)
    labels, wanted = asked.split("."), listed.split(".")
    below = len(labels) > len(wanted) and labels[-len(wanted) :] == wanted
    assert HostList.read([f"*.{listed}"]).admits(Target(asked, 443)) == below
