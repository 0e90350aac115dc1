"""Simulators of ERPs, which answer as the ERPs' documents say, for authors of targets without an ERP to try them on.

    python -m gateway.testing.erps odoo19 --listen 127.0.0.1:9090

None of them is that ERP: what a file in `etc/targets/` was tried against stands at its top.
"""

from gateway.testing.erps.base import Article, Asked, ErpServer, Held, HeldLine
from gateway.testing.erps.business_central import BusinessCentral
from gateway.testing.erps.business_one import BusinessOne
from gateway.testing.erps.dolibarr import Dolibarr
from gateway.testing.erps.erpnext import ErpNext
from gateway.testing.erps.netsuite import NetSuite
from gateway.testing.erps.odoo18 import Odoo18
from gateway.testing.erps.odoo19 import Odoo19
from gateway.testing.erps.s4hana import S4Hana
from gateway.testing.erps.tryton import Tryton

ERPS: dict[str, type[ErpServer]] = {
    "business-central": BusinessCentral,
    "business-one": BusinessOne,
    "dolibarr": Dolibarr,
    "erpnext": ErpNext,
    "netsuite": NetSuite,
    "odoo18": Odoo18,
    "odoo19": Odoo19,
    "s4hana": S4Hana,
    "tryton": Tryton,
}

__all__ = [
    "ERPS",
    "Article",
    "Asked",
    "BusinessCentral",
    "BusinessOne",
    "Dolibarr",
    "ErpNext",
    "ErpServer",
    "Held",
    "HeldLine",
    "NetSuite",
    "Odoo18",
    "Odoo19",
    "S4Hana",
    "Tryton",
]
