"""Talks to an agent with the client library of QEMU's own Python tools: qemu_qmp.py SOCKET DIRECTORY.

Every command of this library has a text as its id, and the reply must bring it back; an error without it ends the
session. An agent neither greets nor negotiates, so both are turned off, as QEMU's client for agents does.
"""

import asyncio
import base64
import os
import sys

from qemu.qmp import ExecuteError, QMPClient

SOCKET, DIRECTORY = sys.argv[1:]
# What that client reads at a time.
PIECE = 1024


async def connect():
    """A session with the agent."""
    client = QMPClient("agent")
    client.await_greeting = False
    client.negotiate = False
    await client.connect(SOCKET)
    return client


async def read_file(client, path):
    """Reads a file piece by piece, until the agent says that this was the last."""
    handle = await client.execute("guest-file-open", {"path": path})
    content = b""
    while True:
        reply = await client.execute("guest-file-read", {"handle": handle, "count": PIECE})
        piece = base64.b64decode(reply["buf-b64"])
        assert len(piece) == reply["count"] <= PIECE, reply
        content += piece
        if reply["eof"]:
            break
    assert await client.execute("guest-file-close", {"handle": handle}) == {}
    return content


async def refusal(client, name, arguments=None):
    """The agent's error. The library takes it for one only when it has the id of the command."""
    try:
        reply = await client.execute(name, arguments)
    except ExecuteError as error:
        return error.error_class, str(error)
    raise AssertionError(f"{name} is answered: {reply}")


async def main():
    client = await connect()
    assert await client.execute("guest-ping") == {}
    for number in (0, 1763812345678, -(2**63), 2**63 - 1):
        assert await client.execute("guest-sync", {"id": number}) == number

    info = await client.execute("guest-info")
    assert all(part.isdigit() for part in info["version"].split(".")), info["version"]
    enabled = {command["name"] for command in info["supported_commands"] if command["enabled"]}
    assert {"guest-ping", "guest-sync", "guest-info", "guest-file-read"} <= enabled, enabled

    interfaces = await client.execute("guest-network-get-interfaces")
    assert {interface["name"] for interface in interfaces} == set(os.listdir("/sys/class/net")), interfaces
    for interface in interfaces:
        for address in interface.get("ip-addresses", []):
            assert address["ip-address-type"] in ("ipv4", "ipv6"), address

    for size in (0, 1, PIECE, 100 * PIECE + 7):
        path = os.path.join(DIRECTORY, f"file-{size}")
        with open(path, "wb") as file:
            file.write(os.urandom(size))
        with open(path, "rb") as file:
            assert await read_file(client, path) == file.read(), f"{size} bytes"

    # Errors of every origin, none of which ends the session.
    assert await refusal(client, "guest-nothing") == (
        "CommandNotFound", "The command guest-nothing has not been found")
    assert await refusal(client, "guest-sync") == ("GenericError", "Parameter 'id' is missing")
    assert await refusal(client, "guest-ping", {"x": 1}) == ("GenericError", "Parameter 'x' is unexpected")
    missing = os.path.join(DIRECTORY, "missing")
    kind, text = await refusal(client, "guest-file-open", {"path": missing})
    assert kind == "GenericError" and text.endswith("No such file or directory"), text

    # Many at once: only the ids tell whose reply is whose.
    numbers = await asyncio.gather(*(client.execute("guest-sync", {"id": number}) for number in range(100)))
    assert numbers == list(range(100)), numbers
    await client.disconnect()

    # And again, as one who comes back.
    client = await connect()
    assert await client.execute("guest-ping") == {}
    await client.disconnect()


asyncio.run(asyncio.wait_for(main(), 60))
