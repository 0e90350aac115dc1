"""OpenAPI 3.1 description of the command API, made from the Structs that check the bodies."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway import __version__
from gateway.api.commands import Command
from gateway.codes import MEDIA, NAMES
from gateway.edge.request_headers import LONGEST_KEY, LONGEST_WAIT_S

CODE_IMAGES = {name: MEDIA[name.partition(".")[2]] for name in NAMES}

_REF = "#/components/{}/{}"
_STATES = ("ready", "leased", "done", "unknown", "held", "dead")
_ID = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_INTRODUCTION = """\
The gateway commits each command before it answers, and then sends it to the vendor until the vendor has answered. If you are not
sure that a command arrived, send the same body again under the same `Idempotency-Key`: it runs once. A command may have rules
beyond its schema, such as dates that must lie in the future; a body that breaks them is answered 422, too."""


def openapi(commands: Mapping[str, Mapping[str, Command]], max_body_bytes: int) -> bytes:
    """Return the document for these commands of each source."""
    bodies = list(dict.fromkeys(command.body for those in commands.values() for command in those.values()))
    refs, schemas = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        if "properties" in schema:
            schema["additionalProperties"] = False  # an unknown key is refused at every level
    named = dict(zip(bodies, refs, strict=True))
    paths: dict[str, Any] = {
        f"/out/{source}/{name}": {"post": _command(source, name, command, named[command.body], max_body_bytes)}
        for source, those in commands.items()
        for name, command in those.items()
    }
    paths["/out/{id}"] = {"parameters": [_parameter("id", "path", _ID)], "get": _state()}
    for image, kind in CODE_IMAGES.items():
        paths[f"/out/{{id}}/{image}"] = {"parameters": [_parameter("id", "path", _ID)], "get": _image(image, kind)}
    paths["/openapi.json"] = {
        "get": {
            "operationId": "openapi",
            "tags": ["gateway"],
            "summary": "This document",
            "responses": {"200": _json("The document", {"type": "object"}), **_refusals("401", "429")},
        }
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "order-gateway: command API", "version": __version__, "description": _INTRODUCTION},
            "security": [{"token": []}],
            "tags": [{"name": "gateway"}, *({"name": source} for source in commands)],
            "paths": paths,
            "components": {
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "As `gateway token` printed it."}},
                "headers": _HEADERS,
                "responses": _RESPONSES,
                "schemas": {**schemas, **_SCHEMAS},
            },
        }
    )


def _command(source: str, name: str, command: Command, body: Mapping[str, Any], max_body_bytes: int) -> dict[str, Any]:
    committed = {"Location": _ref("headers", "Location"), "Idempotent-Replayed": _ref("headers", "Idempotent-Replayed")}
    waited = {"Preference-Applied": _ref("headers", "Preference-Applied")}
    return {
        "operationId": f"{source}.{name}",
        "tags": [source],
        "summary": command.title,
        "description": inspect.cleandoc(command.body.__doc__ or command.title),
        "parameters": [
            _parameter(
                "Idempotency-Key",
                "header",
                {"type": "string", "maxLength": LONGEST_KEY, "pattern": "^[!-~]([ -~]*[!-~])?$"},
                "Your name for this command, a new one for each. A repeat under the same name does not run it again.",
            ),
            {
                **_parameter("Prefer", "header", {"type": "string", "pattern": "^wait=[0-9]{1,3}$"}),
                "required": False,
                "description": f"`wait=SECONDS`, at most {LONGEST_WAIT_S}: wait for the vendor's answer (RFC 7240).",
            },
        ],
        "requestBody": {
            "required": True,
            "description": f"At most {max_body_bytes} bytes.",
            "content": {"application/json": {"schema": body}},
        },
        "responses": {
            "200": {**_json("The vendor has answered in time", _ref("schemas", "Ended")), "headers": {**committed, **waited}},
            "202": {
                **_json("The command is committed, and will be sent", _ref("schemas", "Committed")),
                "headers": {**committed, **waited},
            },
            **_refusals("400", "401", "403", "408", "409", "413", "415", "422", "429", "503"),
        },
    }


def _state() -> dict[str, Any]:
    return {
        "operationId": "submission",
        "tags": ["gateway"],
        "summary": "State of a command that you submitted",
        "responses": {"200": _json("Its current state", _ref("schemas", "Submission")), **_refusals("401", "404", "429", "503")},
    }


def _image(image: str, kind: str) -> dict[str, Any]:
    return {
        "operationId": image,
        "tags": ["gateway"],
        "summary": "The QR code of a created order" if image.startswith("pickup") else "The DataMatrix label of a created order",
        "responses": {
            "200": {"description": "The image", "content": {kind: {}}},
            **_refusals("401", "404", "429", "503"),
        },
    }


def _parameter(name: str, where: str, schema: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    return {"name": name, "in": where, "required": True, "schema": schema, **({"description": description} if description else {})}


def _json(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": _REF.format(kind, name)}


def _refusals(*statuses: str) -> dict[str, Any]:
    return {status: _ref("responses", status) for status in statuses}


def _header(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "schema": schema}


def _refusal(description: str, schema: str = "Refusal", **headers: str) -> dict[str, Any]:
    return {
        **_json(description, _ref("schemas", schema)),
        "headers": {name.replace("_", "-"): _ref("headers", name.replace("_", "-")) for name in headers},
    }


_HEADERS = {
    "Location": _header("Address of its state", {"type": "string"}),
    "Idempotent-Replayed": _header("Present if the key was known: no new command was made", {"const": "true"}),
    "Preference-Applied": _header("How long the gateway waited at most", {"type": "string"}),
    "Retry-After": _header("Seconds until the next try", {"type": "string", "pattern": "^[0-9]+$"}),
    "WWW-Authenticate": _header("Kind of token that is needed", {"type": "string"}),
}
_RESPONSES = {
    "400": _refusal("No Idempotency-Key, or an invalid one; or the body breaks off"),
    "401": _refusal("No token, or an unknown one", WWW_Authenticate=""),
    "403": _refusal("The token may not submit this command"),
    "404": _refusal("There is no such command, no such id of yours, or no such code"),
    "408": _refusal("The body comes too slowly"),
    "409": _refusal("The key stands for another command, or there is a command for this number already; `id` names it where it is yours"),
    "413": _refusal("The body is too long"),
    "415": _refusal("The Content-Type is not JSON"),
    "422": _refusal("The body does not fit; lists every problem", "InvalidBody"),
    "429": _refusal("Too many requests a second", Retry_After=""),
    "503": _refusal("The command may not be committed: send the same again under the same key", Retry_After=""),
}
_STATE = {"enum": list(_STATES), "description": "held: a person decides. unknown: it is in doubt whether the vendor has done it."}
_ANSWER = {"description": "The vendor's answer as received; null if there is none, not yet, or not any more."}
_ERROR = {"type": ["string", "null"], "description": "Reason why it is dead or held, or the error of the last attempt."}


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


_ENDED = {"enum": ["done", "dead"], "description": "dead: the vendor refuses it, and `error` says why."}
_PROBLEM = _object("path problem", path={"type": "string", "examples": ["$.articles[0].interval"]}, problem={"type": "string"})
_SCHEMAS: Mapping[str, Any] = {
    "Committed": _object("id state", id=_ID, state=_STATE, answer=_ANSWER, error=_ERROR),
    "Ended": _object("id state", id=_ID, state=_ENDED, answer=_ANSWER, error=_ERROR),
    "Submission": _object(
        "id source command state attempts answer error",
        id=_ID,
        source={"type": "string"},
        command={"type": "string"},
        state=_STATE,
        attempts={"type": "integer", "minimum": 0},
        answer=_ANSWER,
        error=_ERROR,
    ),
    "Refusal": _object("problem", problem={"type": "string"}, id={"type": "string"}),
    "InvalidBody": _object("problems", problems={"type": "array", "minItems": 1, "items": _PROBLEM}),
}
