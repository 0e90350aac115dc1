"""For connector authors and for people who try things: a clock to move, an ERP to break, a suite, a gateway to put a connector into."""

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
