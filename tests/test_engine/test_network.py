"""Machines that gloo could not connect are named at the start."""

import os
import socket
from unittest.mock import Mock

import pytest

from pixcon_mm.engine import network
from pixcon_mm.engine.hooks import stop_signal_hook
from pixcon_mm.engine.network import INTERFACE
from tests.commands import sentence_of

LOOPBACK, PUBLIC = '127.0.0.1', '0.0.0.0'


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Be the first process of a machine, with no interface chosen."""
    monkeypatch.delenv(INTERFACE, raising=False)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(socket, 'gethostname', lambda: 'node3')
    interfaces = [(1, 'lo'), (2, 'eth1'), (3, 'ib0')]
    monkeypatch.setattr(socket, 'if_nameindex', lambda: interfaces)


def resolve(monkeypatch, address):
    """Let all names resolve to an address."""
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    monkeypatch.setattr(
        socket,
        'getaddrinfo',
        lambda *_, **__: [(family, socket.SOCK_STREAM, 6, '', (address, 0))],
    )


def beside(monkeypatch, *others):
    """Add other processes: name, is first of its machine, is reachable."""
    monkeypatch.setattr(
        network, 'all_gather_object', lambda own: [own, *others]
    )


# The last is of a range for documentation, and so no machine's own.
@pytest.mark.parametrize('address', ['127.0.0.1', '192.0.2.9'])
def test_addresses_of_no_use_to_others(monkeypatch, address):
    resolve(monkeypatch, address)
    beside(monkeypatch, ('node4', True, True))
    sentence = sentence_of(network.check_names)
    assert sentence.startswith('Other machines cannot connect to node3,')
    assert 'of those here: eth1, ib0)' in sentence
    monkeypatch.setenv(INTERFACE, '')
    assert sentence_of(network.check_names) == sentence
    monkeypatch.setenv(INTERFACE, 'eth0')
    network.check_names()


def test_all_machines_stop(monkeypatch):
    resolve(monkeypatch, PUBLIC)
    beside(monkeypatch, ('node4', True, False))
    assert 'connect to node4,' in sentence_of(network.check_names)
    beside(monkeypatch, ('node4', True, True))
    network.check_names()


def test_on_one_machine_any_name_will_do(monkeypatch):
    resolve(monkeypatch, LOOPBACK)
    beside(monkeypatch, ('node3', False, False))
    network.check_names()
    # A copy of the machine, with the same name.
    beside(monkeypatch, ('node3', False, False), ('node3', True, False))
    assert 'connect to node3,' in sentence_of(network.check_names)


@pytest.mark.parametrize('error', [socket.gaierror, UnicodeError])
def test_names_that_cannot_be_resolved(monkeypatch, error):
    monkeypatch.setattr(socket, 'getaddrinfo', Mock(side_effect=error))
    assert not network.is_reachable()


def test_without_nccl_a_machine_looks_at_itself(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '4')
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    resolve(monkeypatch, LOOPBACK)
    assert 'connect to node3,' in sentence_of(network.check_own_name)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    network.check_own_name()
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    resolve(monkeypatch, PUBLIC)
    network.check_own_name()


def test_names_are_checked_before_gloo_connects(monkeypatch):
    check = Mock(side_effect=InterruptedError)
    monkeypatch.setattr(stop_signal_hook, 'check_names', check)
    hook = stop_signal_hook.StopSignalHook()
    try:
        with pytest.raises(InterruptedError):
            hook.before_train(Mock(world_size=2))
        hook.before_train(Mock(world_size=1))
    finally:
        hook.request.stop_listening()


@pytest.mark.parametrize(
    ('nccl', 'gloo', 'expected'),
    [
        ('lo', None, 'lo'),
        ('lo', '', 'lo'),
        ('lo', 'eth1', 'eth1'),
        ('=no interface', None, None),
    ],
)
def test_gloo_uses_the_interface_of_nccl(monkeypatch, nccl, gloo, expected):
    monkeypatch.setenv('NCCL_SOCKET_IFNAME', nccl)
    # Also restores it, after the test.
    monkeypatch.setenv(INTERFACE, gloo or '')
    if gloo is None:
        monkeypatch.delenv(INTERFACE)
    network.share_interface()
    assert os.environ.get(INTERFACE) == expected
