"""Network interface through which processes on several machines use gloo."""

import ipaddress
import os
import socket
from pathlib import Path

from mmengine.dist import all_gather_object

from pixcon_mm.errors import UserError

INTERFACE = 'GLOO_SOCKET_IFNAME'


def share_interface() -> None:
    """Let gloo use the interface that NCCL is told to use."""
    interface = os.environ.get('NCCL_SOCKET_IFNAME', '')
    if Path('/sys/class/net', interface or '-').exists():
        os.environ.setdefault(INTERFACE, interface)


def check_names() -> None:
    """Stop if gloo would give other machines an address of no use to them.

    Unless it is told an interface, gloo gives them the address that this
    machine's name stands for. NCCL does not need the name, so this is the
    first time that it matters. Gloo would wait for connections without end.

    Raises:
        UserError: In all processes, if a machine's name stands for a loopback
            address, as on a fresh Debian or Ubuntu, or for none.
    """
    name = socket.gethostname()
    is_known = INTERFACE in os.environ or not is_loopback(name)
    machines = dict(all_gather_object((name, is_known)))
    hidden = [machine for machine, known in machines.items() if not known]
    if hidden and len(machines) > 1:
        own = [n for _, n in socket.if_nameindex() if n != 'lo']
        raise UserError(
            f'Other machines cannot reach {hidden[0]}, whose name stands for '
            f'a loopback address there, or for none: set {INTERFACE} to the '
            'interface that connects the machines (of those here: '
            f'{", ".join(own)}), or correct /etc/hosts.'
        )


def is_loopback(name: str) -> bool:
    """Check if a machine's name stands for itself only, or for nothing."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return True
    return ipaddress.ip_address(found[0][4][0]).is_loopback
