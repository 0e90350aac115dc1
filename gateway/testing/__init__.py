"""Tools for connector authors and for trials: clock, ERP, conformance suite, and a gateway for one connector."""

from gateway.testing.bench import Bench, source_bench
from gateway.testing.clock import ManualClock
from gateway.testing.conformance import Sample, check_connector, load_samples
from gateway.testing.erp import ErpSimulator
from gateway.testing.hub import FaultHub
from gateway.testing.loopback import LoopbackServer
from gateway.testing.simulator import Sent, Simulator, demonstrate
from gateway.testing.vendor import vendor_client
from gateway.testing.whole import running_gateway
from gateway.testing.wishes import Orderable, Wish

__all__ = [
    "Bench",
    "ErpSimulator",
    "FaultHub",
    "LoopbackServer",
    "ManualClock",
    "Orderable",
    "Sample",
    "Sent",
    "Simulator",
    "Wish",
    "check_connector",
    "demonstrate",
    "load_samples",
    "running_gateway",
    "source_bench",
    "vendor_client",
]
