"""Whether a Ray cluster lets in whoever reaches its ports."""

from __future__ import annotations

_CALL = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
_SECONDS = 15.0
# Through a proxy for the rest of the world another one would answer.
_DIRECT = (("grpc.enable_http_proxy", 0),)


def is_open(address: str) -> bool:
    """Ask the server of a cluster's state which nodes there are, without a token.

    Args:
        address: host:port.

    Returns:
        whether it told; no where it did not answer, which is told by whoever joins it.
    """
    import grpc

    with grpc.insecure_channel(address, options=_DIRECT) as channel:
        try:
            channel.unary_unary(_CALL)(b"", timeout=_SECONDS)
        except grpc.RpcError:
            return False
    return True
