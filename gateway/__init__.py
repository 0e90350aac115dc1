"""order-gateway: delivers orders from vendors' clouds to the ERP, in one canonical form, at least once.

Connectors import from here; `plugins/README.md` says how to write one.
"""

from gateway.api.commands import Codes, Command, Submission, Submitted
from gateway.api.description import Description, FetchRetry
from gateway.api.errors import (
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
from gateway.api.hookspecs import hookimpl
from gateway.api.messages import Door, Envelope, Event, OpenOrder, Page, Receipt, Stage, Unreadable, is_identity
from gateway.api.order import Address, Customer, Line, Order, Status, decimal, utc
from gateway.api.redact import refused
from gateway.api.secrets import Secret, TextList
from gateway.api.strict_json import list_apart, read_json
from gateway.api.subscription import Reconnect, Subscription
from gateway.api.urls import Url
from gateway.api.vendor_client import Api, BasicAuth, BearerAuth, HeaderAuth, OAuth2, QueryAuth, Response, VendorClient
from gateway.api.webhook_auth import WebhookAuth
from gateway.mapping import Mapping, missing_fields

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
