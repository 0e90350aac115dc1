"""A SignalR hub for tests, demos and simulators; alone: `python -m gateway.testing.hub --port 5080 --key test-key`."""

from gateway.testing.hub.frames import frame
from gateway.testing.hub.server import END, FaultHub, Heard, Line, invocation, record

__all__ = ["END", "FaultHub", "Heard", "Line", "frame", "invocation", "record"]
