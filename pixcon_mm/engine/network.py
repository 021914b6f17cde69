"""Network interface through which processes on several machines use gloo."""

import ipaddress
import os
import socket

from mmengine.dist import all_gather_object

from pixcon_mm.errors import UserError

INTERFACE = 'GLOO_SOCKET_IFNAME'


def share_interface() -> None:
    """Let gloo use the network interface that is set for NCCL."""
    interface = os.environ.get('NCCL_SOCKET_IFNAME')
    if interface in _interfaces() and not os.environ.get(INTERFACE):
        os.environ[INTERFACE] = interface


def check_own_name() -> None:
    """Stop if processes of torchrun on other machines could not connect here.

    This is for a run without NCCL, whose processes cannot tell each other
    anything before gloo has connected them.

    Raises:
        UserError: In the processes of this machine.
    """
    total, local = map(os.environ.get, ('WORLD_SIZE', 'LOCAL_WORLD_SIZE'))
    if local not in (None, total) and not is_reachable():
        raise _unreachable(socket.gethostname())


def check_names() -> None:
    """Stop if gloo could not connect the machines, after NCCL has.

    Gloo would wait for connections without end.

    Raises:
        UserError: In all processes.
    """
    is_first = int(os.environ.get('LOCAL_RANK', 0)) == 0
    own = (socket.gethostname(), is_first, is_reachable())
    machines = [each for each in all_gather_object(own) if each[1]]
    hidden = [name for name, _, is_known in machines if not is_known]
    if hidden and len(machines) > 1:
        raise _unreachable(hidden[0])


def is_reachable() -> bool:
    """Check if gloo gives other machines an address that they can use.

    Without ``GLOO_SOCKET_IFNAME``, this is the address that the machine's
    name resolves to. On a fresh Debian or Ubuntu it is a loopback address,
    which gloo also falls back to if the address is not the machine's own.
    """
    if os.environ.get(INTERFACE):
        return True
    try:
        found = socket.getaddrinfo(
            socket.gethostname(), None, type=socket.SOCK_STREAM
        )
        family, *_, address = found[0]
        with socket.socket(family) as server:
            server.bind(address)
    except (OSError, UnicodeError):
        return False
    return not ipaddress.ip_address(address[0]).is_loopback


def _unreachable(name: str) -> UserError:
    others = [each for each in _interfaces() if each != 'lo']
    return UserError(
        f'Other machines cannot connect to {name}, whose name does not '
        f'resolve to an address that they can use: set {INTERFACE} to the '
        'interface that connects the machines (one of those here: '
        f'{", ".join(others)}), or correct /etc/hosts there.'
    )


def _interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]
