"""For connector authors and for people who try things: a clock to move, an ERP to break, a suite every connector passes."""

from gateway.testing.clock import ManualClock
from gateway.testing.conformance import Sample, check_connector, load_samples
from gateway.testing.erp import ErpSimulator
from gateway.testing.hub import FaultHub
from gateway.testing.simulator import Sent, Simulator
from gateway.testing.vendor import vendor_client
from gateway.testing.wishes import Orderable, Wish

__all__ = [
    "ErpSimulator",
    "FaultHub",
    "ManualClock",
    "Orderable",
    "Sample",
    "Sent",
    "Simulator",
    "Wish",
    "check_connector",
    "load_samples",
    "vendor_client",
]
