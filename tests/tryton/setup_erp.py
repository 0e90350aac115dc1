"""Fill a new Tryton database; runs in Tryton's own environment: `python setup_erp.py CONFIG DATABASE`. Prints the REST key.

One company (EUR, no taxes), two customers C-100 and C-200, three articles (SKU-1 and SKU-2 by the piece, KG-1 by the kilogram with
three decimals), and a user `gateway` of the group Sales with the key of a REST application: what a real one would need.
"""

import sys
from decimal import Decimal

from proteus import Model, config
from trytond.modules.account.tests.tools import create_chart, get_accounts
from trytond.modules.company.tests.tools import create_company, get_company
from trytond.modules.currency.tests.tools import get_currency


def main(configuration: str, database: str) -> None:
    config.set_trytond(f"sqlite:///{database}", config_file=configuration)
    get_currency("USD")
    create_company(currency=get_currency("EUR"))
    create_chart()
    (sequence,) = Model.get("ir.sequence").find([("name", "=", "Party")])
    sequence.prefix, sequence.number_next = "C-", 100
    sequence.save()
    for name in ("Buyer One", "Buyer Two"):
        party = Model.get("party.party")(name=name)
        party.addresses[0].street = "Main Street 1"
        party.save()
    articles()
    print(rest_key())


def articles() -> None:
    accounts = get_accounts()
    category = Model.get("product.category")(name="Goods", accounting=True)
    category.account_expense, category.account_revenue = accounts["expense"], accounts["revenue"]
    category.save()
    units = Model.get("product.uom")
    (piece,) = units.find([("name", "=", "Unit")])
    (kilogram,) = units.find([("symbol", "=", "kg")])
    kilogram.digits, kilogram.rounding = 3, 0.001
    kilogram.save()
    for code, name, unit in (("SKU-1", "Bolt", piece), ("SKU-2", 'Nut "M8" \\ 😀', piece), ("KG-1", "Flour", kilogram)):
        template = Model.get("product.template")(name=name, default_uom=unit, type="goods", salable=True)
        template.list_price, template.account_category = Decimal("1"), category
        template.products[0].suffix_code = code
        template.save()


def rest_key() -> str:
    company = get_company()
    user = Model.get("res.user")(name="Gateway", login="gateway")
    user.companies.append(company)
    user.company = company
    user.groups.append(Model.get("res.group").find([("name", "=", "Sales")])[0])
    user.password = "gateway-constructed-1"
    user.save()
    application = Model.get("res.user.application")(user=user, application="rest")
    application.save()
    return str(application.key)


main(*sys.argv[1:])
