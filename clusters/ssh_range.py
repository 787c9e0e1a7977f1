"""Who may reach the machines of a cluster by SSH; for aws_once.py and gcp_once.py, which lie beside it."""

from __future__ import annotations

import ipaddress

import click


def narrow(cidr: str) -> str:
    """Return a range of addresses in its usual spelling.

    Raises:
        click.BadParameter: no range, or one of more than 65,536 addresses.
    """
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise click.BadParameter(f"{cidr!r} is no IPv4 range ({error}); give one as 203.0.113.7/32") from error
    if network.prefixlen < 16:
        raise click.BadParameter(f"{cidr!r} lets {network.num_addresses:,} addresses in; give /16 to /32")
    return str(network)
