"""order-gateway: orders from vendors' clouds, as one canonical order, into the ERP, at least once.

What a connector author imports is here; `plugins/README.md` says how to write one on one page.
"""

from gateway.client import Api, BasicAuth, BearerAuth, HeaderAuth, OAuth2, QueryAuth, Response, VendorClient
from gateway.contract import is_identity
from gateway.errors import (
    AuthError,
    Hold,
    Ignore,
    MappingError,
    PermanentError,
    RateLimited,
    Rejected,
    TimedOut,
    TransientError,
    UnknownKey,
    without_input,
)
from gateway.exact_json import list_apart, read_json
from gateway.hookspecs import hookimpl
from gateway.mapping import Mapping, missing_fields
from gateway.messages import Description, Door, Envelope, Event, FetchRetry, OpenOrder, Page, Receipt, Stage, Unreadable
from gateway.orders import Address, Customer, Line, Order, Status, decimal, utc
from gateway.refusal import refused
from gateway.secret import Secret, TextList
from gateway.submission import Codes, Command, Submission, Submitted
from gateway.subscription import Reconnect, Subscription
from gateway.urls import Url
from gateway.webhook_auth import WebhookAuth

__version__ = "0.1.0"

__all__ = [
    "Address",
    "Api",
    "AuthError",
    "BasicAuth",
    "BearerAuth",
    "Codes",
    "Command",
    "Customer",
    "Description",
    "Door",
    "Envelope",
    "Event",
    "FetchRetry",
    "HeaderAuth",
    "Hold",
    "Ignore",
    "Line",
    "Mapping",
    "MappingError",
    "OAuth2",
    "OpenOrder",
    "Order",
    "Page",
    "PermanentError",
    "QueryAuth",
    "RateLimited",
    "Receipt",
    "Reconnect",
    "Rejected",
    "Response",
    "Secret",
    "Stage",
    "Status",
    "Submission",
    "Submitted",
    "Subscription",
    "TextList",
    "TimedOut",
    "TransientError",
    "UnknownKey",
    "Unreadable",
    "Url",
    "VendorClient",
    "WebhookAuth",
    "decimal",
    "hookimpl",
    "is_identity",
    "list_apart",
    "missing_fields",
    "read_json",
    "refused",
    "utc",
    "without_input",
]
