"""What a server that others can reach leaves open, and which settings close it. Pure."""

from __future__ import annotations

import ipaddress

from serving.config import Settings


def left_open(settings: Settings) -> list[str]:
    """What is left open, each with the settings that close it; nothing on loopback. The host is an address."""
    if ipaddress.ip_address(settings.host.partition("%")[0]).is_loopback:
        return []
    found = []
    known = settings.keys_file or settings.jwt_keys
    if not known and settings.tls_client_ca_file is None:
        found.append(
            "whoever reaches it is served: make a key by `certserve keys add keys.json NAME` and set --keys-file keys.json,"
            " or set --jwt-keys, --jwt-issuer and --jwt-audience, or --tls-client-ca-file"
        )
    if settings.tls_cert_file is None:
        what = "keys and inputs travel" if known else "inputs and answers travel"
        found.append(f"{what} in the clear: set --tls-cert-file and --tls-key-file")
    return found
