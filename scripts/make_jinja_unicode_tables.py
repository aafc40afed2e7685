#!/usr/bin/env python3
"""Writes src/text/jinja_unicode_tables.h: what Python's str methods know beyond general categories
and one-to-one case mappings (those come from utf8proc)."""

import sys
import unicodedata
from pathlib import Path

POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def ranges(predicate):
    out = []
    for c in POINTS:
        if predicate(c):
            if out and out[-1][1] == c - 1:
                out[-1][1] = c
            else:
                out.append([c, c])
    return out


def category(c):
    return unicodedata.category(chr(c))


def emit_ranges(name, comment, items):
    text = ", ".join("{0x%X, 0x%X}" % (a, b) for a, b in items)
    return f"/// {comment}\ninline constexpr CodePointRange {name}[] = {{{text}}};\n"


def emit_special(name, comment, method):
    rows = []
    for c in POINTS:
        mapped = method(chr(c))
        if len(mapped) > 1:
            rows.append("{0x%X, {%s}}" % (c, ", ".join("0x%X" % ord(m) for m in mapped)))
    return f"/// {comment}\ninline constexpr SpecialCasing {name}[] = {{{', '.join(rows)}}};\n"


def main():
    parts = [
        "#pragma once\n",
        "// Written by scripts/make_jinja_unicode_tables.py (Unicode %s).\n" % unicodedata.unidata_version,
        "namespace sabrewing::text::jinja {\n",
        "struct CodePointRange {\n  char32_t first;\n  char32_t last;\n};\n",
        "/// A mapping to more than one code point; unused places are zero.\n"
        "struct SpecialCasing {\n  char32_t from;\n  char32_t to[3];\n};\n",
        emit_ranges("kDigits", "Digits that are not of category Nd.",
                    ranges(lambda c: chr(c).isdigit() and category(c) != "Nd")),
        emit_ranges("kNumerics", "Numeric characters of no number category.",
                    ranges(lambda c: chr(c).isnumeric() and category(c) not in ("Nd", "Nl", "No"))),
        emit_ranges("kOtherLowercase", "Lower case though not of category Ll.",
                    ranges(lambda c: chr(c).islower() and category(c) != "Ll")),
        emit_ranges("kOtherUppercase", "Upper case though not of category Lu.",
                    ranges(lambda c: chr(c).isupper() and category(c) != "Lu")),
        emit_special("kSpecialUpper", "Upper case of more than one code point.", str.upper),
        emit_special("kSpecialTitle", "Title case of more than one code point.", str.title),
        emit_special("kSpecialLower", "Lower case of more than one code point.", str.lower),
        "}  // namespace sabrewing::text::jinja\n",
    ]
    path = Path(__file__).parents[1] / "src/text/jinja_unicode_tables.h"
    path.write_text("\n".join(parts))
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
