"""Machines that gloo could not connect are named at the start."""

import socket

import pytest

from pixcon_mm.engine import network
from pixcon_mm.engine.network import INTERFACE
from tests.commands import sentence_of

LOOPBACK, PUBLIC = '127.0.0.1', '0.0.0.0'


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Be the first process of a machine, with no interface chosen."""
    monkeypatch.delenv(INTERFACE, raising=False)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(socket, 'gethostname', lambda: 'node3')


def resolve(monkeypatch, address):
    """Let all names resolve to an address."""
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    monkeypatch.setattr(
        socket,
        'getaddrinfo',
        lambda *_, **__: [(family, socket.SOCK_STREAM, 6, '', (address, 0))],
    )


def beside(monkeypatch, *others):
    """Add what other processes tell: name, is first of its machine, known."""
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
    for _, interface in socket.if_nameindex():
        assert interface == 'lo' or interface in sentence
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


@pytest.mark.parametrize('name', ['unknown.invalid', 'a..b'])
def test_names_that_cannot_be_resolved(monkeypatch, name):
    monkeypatch.setattr(socket, 'gethostname', lambda: name)
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
