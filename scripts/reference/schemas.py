"""JSON schemas of the OpenAPI document, told in words."""

from collections.abc import Iterator
from typing import Any

from scripts.reference.markdown import code, table


def references(value: object) -> Iterator[str]:
    """Names of the schemas that a schema refers to."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield named(value)
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def named(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def fields(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        [
            code(name),
            type_of(field),
            "required" if name in required else default_of(field),
            field.get("description", ""),
        ]
        for name, field in schema.get("properties", {}).items()
    ]
    return table(["Field", "Type", "Default", "Meaning"], rows) if rows else type_of(schema)


def type_of(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return named(schema)
    if "anyOf" in schema:
        return " or ".join(type_of(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "const" in schema:
        return code(str(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"])
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        kind = f"list of {type_of(schema['items'])}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        kind = f"object of {type_of(schema['additionalProperties'])}"
    return ", ".join([kind, *_rules(schema)])


def _rules(schema: dict[str, Any]) -> Iterator[str]:
    words = {
        "minimum": "≥ {}",
        "exclusiveMinimum": "> {}",
        "maximum": "≤ {}",
        "minLength": "≥ {} characters",
        "maxLength": "≤ {} characters",
        "minItems": "≥ {} items",
        "maxItems": "≤ {} items",
        "maxProperties": "≤ {} members",
        "format": "{}",
        "pattern": "matches `{}`",
    }
    yield from (words[name].format(_number(value)) for name, value in schema.items() if name in words)


def _number(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def default_of(schema: dict[str, Any]) -> str:
    if schema.get("default") in (None, [], {}):
        return ""
    value = schema["default"]
    return code(str(value).lower() if isinstance(value, bool) else str(value)) if not isinstance(value, dict) else ""
