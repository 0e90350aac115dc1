"""Odoo's models, for every protocol: sale orders, partners, products."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from gateway.testing.erps.base import ErpServer, Held, HeldLine


class OdooError(Exception):
    """A Python exception inside Odoo; `name` is its class, which is what a client classifies by."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


USER_ERROR = "odoo.exceptions.UserError"
VALIDATION_ERROR = "odoo.exceptions.ValidationError"
MISSING_ERROR = "odoo.exceptions.MissingError"
ACCESS_DENIED = "odoo.exceptions.AccessDenied"
LOCK_ERROR = "odoo.exceptions.LockError"
VALUE_ERROR = "builtins.ValueError"

_SALE_FIELDS = {"partner_id", "client_order_ref", "order_line", "date_order", "commitment_date", "company_id", "note", "origin"}
_LINE_FIELDS = {"product_id", "product_uom_qty", "price_unit", "name", "sequence", "product_uom_id", "product_uom"}


class OdooModels(ErpServer):
    """The models. `client_order_ref` may repeat, and numbers are rounded without a word, as Odoo does.

    Attributes:
        price_digits, quantity_digits: Settings > Technical > Decimal Accuracy, `Product Price` and `Product Unit`; 2 as installed.
    """

    key = "constructed-odoo-key"

    def __init__(self) -> None:
        super().__init__()
        self.price_digits = 2
        self.quantity_digits = 2

    def held(self) -> list[Held]:
        return [
            Held(
                id=str(order["id"]),
                number=order["name"],
                reference=order["client_order_ref"] or "",
                customer=self.customer(order["partner_id"]) or "",
                state=order["state"],
                lines=tuple(self._line(line) for line in order["order_line"]),
            )
            for order in self.made
        ]

    def _line(self, line: dict[str, Any]) -> HeldLine:
        article = self.article(line["product_id"])
        assert article is not None
        return HeldLine(article=article.code, quantity=line["product_uom_qty"], price=line["price_unit"])

    def run(self, model: str, method: str, arguments: dict[str, Any]) -> Any:
        """Call a model's method in one transaction. Raises OdooError."""
        if model == "sale.order" and method == "create":
            given = arguments.get("vals_list", [])
            made = [self._checked(values) for values in (given if isinstance(given, list) else [given])]
            self.made.extend(made)
            ids = [order["id"] for order in made]
            return ids if isinstance(given, list) else ids[0]
        if model == "sale.order" and method == "action_confirm":
            return self._confirmed(arguments.get("ids", []))
        if method == "search_read":
            found = [row for row in self._rows(model) if _matches(row, arguments.get("domain", []), model)]
            fields = arguments.get("fields") or list(found[0] if found else {})
            return [{"id": row["id"]} | {name: row.get(name, False) for name in fields} for row in found]
        raise OdooError("builtins.AttributeError", f"The method '{model}.{method}' does not exist")

    def _rows(self, model: str) -> list[dict[str, Any]]:
        if model == "res.partner":
            return [{"id": id, "ref": code, "name": code, "active": True} for code, id in self.customers.items()]
        if model == "product.product":
            return [{"id": a.id, "default_code": a.code, "name": a.name, "uom_id": [a.unit, "Units"]} for a in self.articles.values()]
        if model == "res.currency":
            return [{"id": id, "name": code} for code, id in self.currencies.items()]
        if model == "sale.order":
            partner = {"partner_id": None}
            return [
                o | partner | {"partner_id": [o["partner_id"], ""], "partner_id.ref": self.customer(o["partner_id"])} for o in self.made
            ]
        raise OdooError("builtins.KeyError", model)

    def _checked(self, values: Any) -> dict[str, Any]:
        if not isinstance(values, dict):
            raise OdooError("builtins.AttributeError", f"'{type(values).__name__}' object has no attribute 'items'")
        for name in values.keys() - _SALE_FIELDS:
            raise OdooError(VALUE_ERROR, f"Invalid field {name!r} on 'sale.order'")
        if not values.get("partner_id"):
            raise OdooError(VALIDATION_ERROR, "The operation cannot be completed: a mandatory field is not set (Customer).")
        if self.customer(values["partner_id"]) is None:
            raise OdooError(MISSING_ERROR, "Record does not exist or has been deleted.\n(Record: res.partner)")
        id = self.new_id()
        lines = [self._checked_line(command) for command in values.get("order_line", [])]
        return {"id": id, "name": f"S{id:05}", "state": "draft", "client_order_ref": False, **values, "order_line": lines}

    def _checked_line(self, command: Any) -> dict[str, Any]:
        if not (isinstance(command, list) and len(command) == 3 and command[0] == 0 and isinstance(command[2], dict)):
            raise OdooError(VALUE_ERROR, f"Wrong value for sale.order.order_line: {command!r}")
        line = command[2]
        for name in line.keys() - _LINE_FIELDS:
            raise OdooError(VALUE_ERROR, f"Invalid field {name!r} on 'sale.order.line'")
        if self.article(line.get("product_id")) is None:
            raise OdooError(MISSING_ERROR, "Record does not exist or has been deleted.\n(Record: product.product)")
        try:
            quantity, price = Decimal(str(line.get("product_uom_qty", 1))), Decimal(str(line.get("price_unit", 0)))
        except ArithmeticError:
            raise OdooError(VALUE_ERROR, "could not convert string to float") from None
        return line | {"product_uom_qty": _rounded(quantity, self.quantity_digits), "price_unit": _rounded(price, self.price_digits)}

    def _confirmed(self, ids: list[int]) -> bool:
        orders = [order for order in self.made if order["id"] in ids]
        if len(orders) != len(ids):
            raise OdooError(MISSING_ERROR, "Record does not exist or has been deleted.\n(Record: sale.order)")
        if any(order["state"] not in ("draft", "sent") for order in orders):
            raise OdooError(USER_ERROR, "Some orders are not in a state requiring confirmation.")
        for order in orders:
            order["state"] = "sale"
        return True


def kind_of(model: str, method: str) -> str:
    """Return the kind of a call (see `Armed.on`)."""
    if method == "search_read":
        return "find" if model == "sale.order" else "codes"
    return {"create": "create", "authenticate": "token"}.get(method, "step")


def _rounded(value: Decimal, digits: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)


def _matches(row: dict[str, Any], domain: Any, model: str) -> bool:
    """Return True if a row meets all conditions of a domain."""
    for condition in domain:
        if not (isinstance(condition, list) and len(condition) == 3):
            raise OdooError(VALUE_ERROR, f"Invalid domain term {condition!r}")
        field, operator, wanted = condition
        if field not in row:
            raise OdooError(VALUE_ERROR, f"Invalid field {model}.{field} in condition {condition!r}")
        value = row[field][0] if isinstance(row[field], list) and field.endswith("_id") else row[field]
        if operator not in ("=", "!=", "in", "not in"):
            raise OdooError(VALUE_ERROR, f"Invalid operator {operator!r}")
        found = value in wanted if operator in ("in", "not in") else value == wanted
        if found == (operator in ("!=", "not in")):
            return False
    return True
