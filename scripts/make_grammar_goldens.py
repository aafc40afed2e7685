#!/usr/bin/env python3
"""Writes tests/data/grammar/schemas.json: JSON schemas with texts and the verdict of the jsonschema package.

Needs jsonschema. Texts are in the order of the schema's properties and without properties that it does not list,
which the grammar asks for beyond JSON Schema; a text that is no JSON counts as invalid.
"""

import json
import pathlib

import jsonschema

NODE = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["v", "next"],
    "additionalProperties": False,
}
TITLED = {
    "type": "object",
    "properties": {
        "book": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"],
                 "additionalProperties": False},
        "film": {"type": "object", "properties": {"title": {"type": "integer"}}, "required": ["title"],
                 "additionalProperties": False},
    },
    "required": ["book", "film"],
    "additionalProperties": False,
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mail": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "\u00fc"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}

CASES = [
    ({"type": "integer", "minimum": -5, "maximum": 1234}, ["-5", "0", "7", "1234", "-6", "1235", "12345", "1.5", "\"1\"", "007", ""]),
    ({"type": "integer", "exclusiveMinimum": 10, "exclusiveMaximum": 13}, ["10", "11", "12", "13", "110"]),
    ({"type": "integer", "multipleOf": 7}, ["0", "7", "-14", "700", "8", "-15", "1"]),
    ({"type": "number", "minimum": -1.5, "maximum": 2.25}, ["-1.5", "-1.51", "2.25", "2.26", "0", "2.2", "3", "-0.001"]),
    ({"type": "string", "minLength": 3, "maxLength": 5},
     ["\"abc\"", "\"ab\"", "\"abcde\"", "\"abcdef\"", "\"\u65e5\u672c\u8a9e\"", "\"\u65e5\u672c\"", "\"a\tb\"", "abc", "\"abc"]),
    ({"type": "string", "maxLength": 300}, ["\"\"", json.dumps("x" * 300), json.dumps("x" * 301), "\"\u00e9\u00e9\""]),
    ({"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"}, ["\"AB-123\"", "\"Ab-123\"", "\"AB-12\"", "\"AB-1234\""]),
    ({"type": "string"}, ["\"\\u00e9\\n\\\"\"", "\"\n\"", "\"\x01\"", "\"\\x\"", "\"\U0001f600\"", "\"\\ud83d\\ude00\""]),
    ({"enum": ["a", 1, 1.5, None, {"x": []}, "\n"]}, ["\"a\"", "1", "1.5", "null", "{\"x\":[]}", "\"\\n\"", "2", "\"b\"", "{\"x\":[1]}"]),
    ({"const": {"title": "a\"\u00e9", "n": [1, None, True]}}, ["{\"title\":\"a\\\"\u00e9\",\"n\":[1,null,true]}", "{\"title\":\"a\",\"n\":[1,null,true]}"]),
    ({"type": ["string", "null"]}, ["\"x\"", "null", "1"]),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
     ["[1,2]", "[ 1 ,\n2, 3,4 ]", "[1]", "[]", "[1,2,3,4,5]", "[1,\"2\"]", "[1,2,]"]),
    ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "items": False, "minItems": 2},
     ["[\"a\",true]", "[\"a\"]", "[true,\"a\"]", "[\"a\",true,1]"]),
    (PERSON, ["{\"name\":\"Ada\",\"age\":36}", "{ \"name\" : \"Ada\", \"age\" : 36, \"mail\" : \"a@b.org\" }",
              "{\"name\":\"Ada\",\"age\":36,\"tags\":[\"a\",\"\u00fc\"]}", "{\"name\":\"\",\"age\":36}", "{\"name\":\"Ada\"}",
              "{\"name\":\"Ada\",\"age\":151}", "{\"name\":\"Ada\",\"age\":36,\"tags\":[\"c\"]}",
              "{\"name\":\"Ada\",\"age\":36,\"x\":1}", "{\"name\":\"Ada Lovelace\",\"age\":36}", "{\"name\":\"Ada\",\"age\":36"]),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, ["{}", "{\"a\":1,\"b c\":2}", "{\"a\":\"1\"}", "[]"]),
    ({"type": "object", "patternProperties": {"^x_[a-z]+$": {"type": "integer"}}, "additionalProperties": False},
     ["{\"x_a\":1}", "{}", "{\"y\":1}", "{\"x_a\":\"1\"}"]),
    ({"type": "object", "propertyNames": {"pattern": "^[a-z]{2,4}$"}, "additionalProperties": {"type": "boolean"}},
     ["{\"ab\":true}", "{\"a\":true}", "{\"ab\":1}"]),
    ({"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
     ["{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}", "{\"v\":1}", "{\"v\":1,\"next\":{}}"]),
    ({"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"],
                                      "additionalProperties": False}]}, ["1", "{\"x\":\"1\"}", "\"1\"", "{\"x\":1}", "{}"]),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, ["1", "\"a\"", "null", "1.5"]),
    ({"allOf": [{"type": "integer", "minimum": 3}]}, ["3", "2"]),
    (TITLED, ["{\"book\":{\"title\":\"a\"},\"film\":{\"title\":1}}", "{\"book\":{\"title\":\"a\"},\"film\":{\"title\":\"b\"}}",
              "{\"book\":{\"title\":1},\"film\":{\"title\":1}}"]),
    ({"type": "array", "prefixItems": [{"const": {"title": 1}}, {"const": {"title": 2}}], "items": False, "minItems": 2},
     ["[{\"title\":1},{\"title\":2}]", "[{\"title\":1},{\"title\":1}]"]),
    ({"type": "object", "properties": {"stra\u00dfe \"q\"\\": {"type": "integer"}, "\u65e5\u672c": {"type": "null"}},
      "required": ["stra\u00dfe \"q\"\\", "\u65e5\u672c"], "additionalProperties": False},
     ["{\"stra\u00dfe \\\"q\\\"\\\\\":1,\"\u65e5\u672c\":null}", "{\"strasse\":1,\"\u65e5\u672c\":null}"]),
    ({"type": "string", "format": "date-time"}, ["\"2024-02-29T12:00:00Z\"", "\"2024-02-29\"", "\"2024-13-01T12:00:00Z\""]),
    ({"type": "string", "format": "uuid"}, ["\"123e4567-e89b-12d3-a456-426614174000\"", "\"123e4567\""]),
    ({"type": "string", "format": "ipv4"}, ["\"192.168.0.1\"", "\"192.168.0.256\"", "\"1.2.3\""]),
]


def verdict(schema, text):
    def constant(name):
        raise ValueError(name)

    try:
        value = json.loads(text, parse_constant=constant)
    except ValueError:
        return False
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    return validator.is_valid(value)


def main():
    rows = []
    for schema, texts in CASES:
        jsonschema.Draft202012Validator.check_schema(schema)
        row = {"schema": schema, "valid": [], "invalid": []}
        for text in texts:
            row["valid" if verdict(schema, text) else "invalid"].append(text)
        assert row["valid"] and row["invalid"], schema
        rows.append(row)
    out = pathlib.Path(__file__).resolve().parent.parent / "tests/data/grammar/schemas.json"
    lines = ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    out.write_text(f"[\n{lines}\n]\n")
    print(f"{out}: {len(rows)} schemas")


if __name__ == "__main__":
    main()
