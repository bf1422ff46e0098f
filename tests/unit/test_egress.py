"""Which URLs the platform may call."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc import egress
from molecule_grpc.egress import EgressRules
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.settings.egress import EgressSettings
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.values import SettingsError
from tests.settings import egress_of

STRICT = EgressRules()
LISTED = EgressRules(
    networks=(ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd12::/32"))
)
LOCAL = EgressRules(local=True)
ALL = (STRICT, LISTED, LOCAL)

# Columns: nothing listed, 10.1/16 and fd12::/32 listed, development.
TABLE = [
    ("8.8.8.8", "+++"), ("2606:4700::1111", "+++"), ("172.32.0.1", "+++"),
    ("64:ff9b::808:808", "+++"), ("::ffff:8.8.8.8", "+++"), ("::ffff:0:8.8.8.8", "+++"),
    ("10.1.2.3", "-++"), ("fd12::1", "-++"), ("::ffff:10.1.2.3", "-++"),
    ("::ffff:0:10.1.2.3", "-++"), ("64:ff9b::a01:203", "-++"), ("2002:a01:203::1", "-++"),
    ("10.2.0.1", "--+"), ("172.16.0.1", "--+"), ("172.31.255.255", "--+"), ("192.168.1.1", "--+"),
    ("fd00::1", "--+"), ("::ffff:0:10.2.0.1", "--+"),
    ("127.0.0.1", "--+"), ("127.255.255.254", "--+"), ("::1", "--+"), ("::ffff:127.0.0.1", "--+"),
    ("::ffff:0:127.0.0.1", "--+"), ("64:ff9b::7f00:1", "--+"),
    # Metadata of clouds, and the ways to spell them.
    ("169.254.169.254", "---"), ("::ffff:169.254.169.254", "---"), ("64:ff9b::a9fe:a9fe", "---"),
    ("::ffff:0:169.254.169.254", "---"), ("2002:a9fe:a9fe::1", "---"), ("::169.254.169.254", "---"),
    ("fd00:ec2::254", "---"), ("fd20:ce::254", "---"), ("168.63.129.16", "---"),
    ("100.100.100.200", "---"), ("192.0.0.192", "---"), ("fe80::1", "---"), ("fe80::1%lo", "---"),
    # No addresses of agents.
    ("0.0.0.0", "---"), ("0.1.2.3", "---"), ("100.64.0.1", "---"), ("192.0.2.1", "---"),
    ("198.51.100.1", "---"), ("203.0.113.1", "---"), ("198.18.0.1", "---"),
    ("198.19.255.255", "---"), ("224.0.0.1", "---"), ("239.255.255.250", "---"),
    ("240.0.0.1", "---"), ("255.255.255.255", "---"), ("::", "---"), ("fc00::1", "---"),
    ("ff02::1", "---"), ("ff05::2", "---"), ("2001:db8::1", "---"), ("2001::1", "---"),
    ("fec0::1", "---"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "allowed"), TABLE)
def test_which_addresses_may_be_called(address: str, allowed: str) -> None:
    assert "".join("+" if egress.check_address(address, each) else "-" for each in ALL) == allowed


@given(st.ip_addresses(v=4), st.sampled_from(ALL))
def test_wrapping_an_address_in_ipv6_changes_nothing(
    ip: ipaddress.IPv4Address, rules: EgressRules
) -> None:
    bare = egress.check_address(ip, rules)
    number = int(ip)
    wrapped = (
        0xFFFF << 32 | number,
        0xFFFF << 48 | number,
        0x64FF9B << 96 | number,
        0x2002 << 112 | number << 80,
    )
    for each in wrapped:
        assert egress.check_address(ipaddress.IPv6Address(each), rules) is bare


@given(st.ip_addresses())
def test_a_looser_rule_never_blocks_more(ip: Any) -> None:
    strict, listed, local = (egress.check_address(ip, rules) for rules in ALL)
    assert strict <= listed <= local


def test_a_metadata_address_stays_refused_inside_a_listed_network() -> None:
    """A list that is too wide opens no way to the credentials of the machine."""
    env = {"MOLECULE_AGENT_NETWORKS": "fd00::/8, 100.64.0.0/10"}
    settings = Settings.from_env(env)
    rules = EgressRules.of(settings.deployment, settings.egress)
    assert egress.check_address("fd00::1", rules)
    assert egress.check_address("100.64.0.1", rules)
    for address in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200"):
        assert not egress.check_address(address, rules)


@pytest.mark.parametrize(
    "text", ["0.0.0.0/0", "127.0.0.0/8", "169.254.0.0/16", "8.8.8.0/24", "10.1.0.1/16", "::/0", "x"]
)
def test_only_private_networks_can_be_listed(text: str) -> None:
    with pytest.raises(SettingsError):
        Settings.from_env({"MOLECULE_AGENT_NETWORKS": text})


@pytest.mark.parametrize(
    ("environment", "rules"),
    [
        ({}, STRICT),
        ({"MOLECULE_DEPLOY_MODE": "saas"}, STRICT),
        ({"MOLECULE_AGENT_NETWORKS": "10.1.0.0/16,fd12::/32"}, LISTED),
        ({"MOLECULE_ENV": "development"}, LOCAL),
    ],
)
def test_rules_follow_the_settings(environment: dict[str, str], rules: EgressRules) -> None:
    settings = Settings.from_env(environment)
    found = EgressRules.of(settings.deployment, settings.egress)
    assert (found.networks, found.local) == (rules.networks, rules.local)


def test_an_installation_in_saas_mode_is_told_that_it_calls_no_private_agent() -> None:
    assert any(
        "MOLECULE_AGENT_NETWORKS" in warning
        for warning in Settings.from_env({"MOLECULE_DEPLOY_MODE": "saas"}).warnings
    )


async def test_only_listed_ports_may_be_called() -> None:
    settings = Settings.from_env({"MOLECULE_AGENT_PORTS": "443, 8000-8999"})
    rules = EgressRules.of(settings.deployment, settings.egress)
    for good in ("https://8.8.8.8/", "http://8.8.8.8:8000", "http://8.8.8.8:8999"):
        await egress_of(rules).check(good)
    for bad in ("http://8.8.8.8/", "http://8.8.8.8:22", "http://8.8.8.8:9000"):
        with pytest.raises(Invalid):
            await egress_of(rules).check(bad)


@pytest.mark.parametrize("text", ["0", "65536", "9-8", "-", "1-", "http"])
def test_ports_that_are_no_ports_refuse_to_start(text: str) -> None:
    with pytest.raises(SettingsError):
        Settings.from_env({"MOLECULE_AGENT_PORTS": text})


def test_every_port_may_be_called_by_default() -> None:
    assert EgressSettings().allows_port(1)
    assert EgressSettings().allows_port(65535)


@pytest.mark.parametrize(
    "url",
    [
        "", "ftp://a", "//a", "http://", "http:///x", "http://user@a", "http://u:p@a", "http://@a",
        "http://a b", "http://a\\@b", "http://a\n", "javascript:x", "http://a:0", "http://a:99999",
        "http://a:x", "http://[::1", "remote://x", "http://a/\x00", "file:///etc/passwd",
        "gopher://8.8.8.8/", "8.8.8.8", "http://8.8.8.8/\r\nHost: x", "http://8.8.8.8\\@1.1.1.1/",
        # What the platform appends would not be the path that is asked for.
        "http://a/secret?x=", "http://a/secret#", "http://a?", "http://a#", "http://a/#/?",
    ],
)  # fmt: skip
async def test_url_that_is_wrong_on_its_face(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        egress.check_url_syntax(url)
    assert caught.value.reason == "URL_NOT_ALLOWED"
    with pytest.raises(Invalid):
        await egress_of(LOCAL).check(url)


def test_url_is_taken_apart() -> None:
    assert egress.check_url_syntax("HTTPS://A.example/x") == ("https", "a.example", 443)
    assert egress.check_url_syntax("http://[2606:4700::1]:81") == ("http", "2606:4700::1", 81)


@given(st.text())
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        scheme, host, port = egress.check_url_syntax(text)
    except Invalid:
        return
    assert scheme in ("http", "https")
    assert host
    assert 0 < port < 65536


@pytest.mark.parametrize(
    "host",
    [
        "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "0x7f000001", "017700000001",
        "[::ffff:7f00:1]", "localhost", "%00",
    ],
)  # fmt: skip
async def test_other_spellings_of_this_machine_are_this_machine(host: str) -> None:
    """The check sees what the socket would connect to, not what the URL says."""
    with pytest.raises(Invalid):
        await egress_of(LISTED).check(f"http://{host}/")


async def test_resolved_url_pins_the_checked_addresses() -> None:
    checked = await egress_of(STRICT).check("https://93.184.216.34:8443/a")
    assert [str(ip) for ip in checked.addresses] == ["93.184.216.34"]
    assert (checked.scheme, checked.host, checked.port) == ("https", "93.184.216.34", 8443)


async def test_localhost_by_name_passes_registration_only() -> None:
    await egress_of(STRICT).check("http://localhost:9", localhost_by_name=True)
    with pytest.raises(Invalid):
        await egress_of(STRICT).check("http://localhost:9")
    with pytest.raises(Invalid):
        await egress_of(STRICT).check("http://127.0.0.1:9", localhost_by_name=True)


async def test_what_does_not_resolve_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        await egress_of(LOCAL).check("http://nowhere.invalid")
    assert caught.value.reason == "URL_NOT_ALLOWED"
