"""Machines that gloo could not connect are named at the start."""

import socket

import pytest

from pixcon_mm.engine import network
from pixcon_mm.engine.network import INTERFACE, check_names, is_loopback
from tests.commands import sentence_of


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    monkeypatch.delenv(INTERFACE, raising=False)


def stand_for(monkeypatch, address):
    """Let the name of this machine stand for an address."""
    monkeypatch.setattr(socket, 'gethostname', lambda: 'node3')
    monkeypatch.setattr(
        socket, 'getaddrinfo', lambda *_, **__: [(2, 1, 6, '', (address, 0))]
    )


def beside(monkeypatch, other):
    """Add what a process of another machine tells."""
    monkeypatch.setattr(
        network, 'all_gather_object', lambda own: [own, own, other]
    )


@pytest.mark.parametrize('address', ['127.0.1.1', '::1'])
def test_a_name_for_oneself_is_of_no_use_to_others(monkeypatch, address):
    stand_for(monkeypatch, address)
    beside(monkeypatch, ('node4', True))
    sentence = sentence_of(check_names)
    assert sentence.startswith('Other machines cannot reach node3, whose name')
    for _, interface in socket.if_nameindex():
        assert interface == 'lo' or interface in sentence
    monkeypatch.setenv(INTERFACE, 'eth0')
    check_names()


def test_all_machines_stop(monkeypatch):
    stand_for(monkeypatch, '10.1.2.3')
    beside(monkeypatch, ('node4', False))
    assert 'cannot reach node4, whose name' in sentence_of(check_names)
    beside(monkeypatch, ('node4', True))
    check_names()


def test_on_one_machine_any_name_will_do(monkeypatch):
    stand_for(monkeypatch, '127.0.1.1')
    beside(monkeypatch, ('node3', False))
    check_names()


def test_a_name_that_nobody_knows():
    assert is_loopback('a.name.that.is.unknown.invalid')
    assert is_loopback('localhost')
