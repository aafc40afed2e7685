"""Material for make_template_goldens.py: contexts, snippets by hand, and a generator of random ones."""

import re

CONTEXTS = [
    {
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": "Héllo <b>wörld</b> & 'friends' \"quoted\"\n  indented\n\nend"},
            {"role": "assistant", "content": "<think>\nhm, 思考\n</think>\n\nYes 👍🏽.",
             "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 3, "x": None}}}]},
            {"role": "tool", "content": "{\"t\": 21.5}", "name": "get_weather"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "Does <x>", "parameters": {
            "type": "object", "properties": {"a": {"type": "string"}, "b": {"type": ["integer", "null"], "default": 1}},
            "required": ["a"]}}}],
        "s": "Hello, World", "t": "  straße ǅ ΣΑΣ  ", "u": "a,b,,c", "e": "", "w": "x\ty\r\nz\u2028q", "p": "🙂é\u0301中",
        "n": 7, "m": -3, "z": 0, "f": 2.5, "g": -0.75, "h": 1e22, "b": True, "c": False, "o": None,
        "l": [3, 1, 2], "k": ["b", "A", "c", "a"], "d": {"x": 1, "y": [1, 2], "a b": {"q": None}, "items": 5},
        "r": [{"name": "Bo", "age": 3, "tag": "x"}, {"name": "al", "age": 1.5, "tag": "y"}, {"name": "Cy", "age": 3}],
        "q": [[1, "one"], [2, "two"]], "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True,
    },
    {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image"}]}],
        "s": "İstanbul ﬁn", "t": "\u00a0x\u3000", "u": "k=v;k2=v2", "e": " ", "w": "line1\n\nline3\n", "p": "ß",
        "n": 12345678901234567890, "m": -1, "z": 1, "f": 1e-7, "g": 123456789.125, "h": 0.1, "b": False, "c": True,
        "o": None, "l": [], "k": ["", "0", "None", "é"], "d": {}, "r": [], "q": [["a", [1]], ["b", {}]],
        "bos_token": "<|bos|>", "eos_token": "", "add_generation_prompt": False, "enable_thinking": False,
    },
    {
        "messages": [], "tools": None, "s": "abcABC123", "t": "a.b.c", "u": "%d items", "e": "\n", "w": "{}-{x}",
        "p": "\x7f\x01\u200b", "n": 100, "m": 2, "z": -100, "f": 3.0, "g": 1e16, "h": 0.30000000000000004, "b": True,
        "c": True, "o": None, "l": [True, 0, None, "s", 1.5, [1]], "k": ["aa", "ab", "b"], "d": {"k": {"k": {"k": "deep"}}},
        "r": [{"name": "x", "age": None}], "q": [["p", 0]], "bos_token": None, "eos_token": "<eos>",
        "add_generation_prompt": True, "enable_thinking": True,
    },
]

# A grammar. "@name" stands for one of the productions of that name; upper case names nest, and take from
# their "0" list where nothing may nest any more.
GRAMMAR = {
    "i": "0 1 2 3 -1 -2 10 1_000 0x1f 0b11 7",
    "small": "0 1 2 3 -1 4",
    "float": "0.5 1.0 2.5e3 1e-3 -1.25 1e100 0.1 1_0.5",
    "c": ["'a'", '"b c"', "'%s|%5d'", "'é'", "''", r"'\n'", r"'\u00e9\x41\t'", "'x' 'y'", "'<i>&'", "' pad '", "'aXbXc'",
          "'{:>6}|{!r}'", "'%(x)s'", "'3'", "'4.5'", "'-7_0'", "s", "t", "u", "e", "w", "p"],
    "name": "va vb vc s n l loop2",
    "S0": ["s", "t", "u", "e", "w", "p", "bos_token", "eos_token", "messages[0].role", "d.k.k.k", "@c", "@c", "@c"],
    "N0": "n m z f g h b @i @i @float",
    "L0": ["l", "k", "r", "q", "messages", "tools", "[1, 2]", "['a', 'b', 'A']", "(1,)", "[[2, 1], [1, 2]]", "range(4)", "'abc'",
           "[0, False, 1, True, 1.0]", "d"],
    "D0": ["d", "d.k", "messages[0]", "r[0]", "tools[0].function", "{'a': 1, 'B': 2}", "{}", "{1: 'x', 1.0: 'y', true: 'z'}",
           "dict(a=1)", "{'k': none, (1, 2): 3}"],
    "B0": ["b", "c", "true", "False", "not b", "n", "e", "o", "missing", "l"],
    "A0": ["@S0", "@N0", "@L0", "@D0", "o", "c", "missing", "d.y", "d['a b']", "enable_thinking", "s.nope", "true", "None", "[]", "()",
           "@variable", "@variable"],
    "A": ["@S", "@S", "@N", "@L", "@D", "@B", "@mixed"],
    "S": ["@S + @S", "@A ~ @A", "@S * @small", "@S[@slice]", "@S[@i]", "@S.@mapping()", "@S.@strip()", "@S.@strip(@c)",
          "@S.replace(@c, @c)", "@S.replace(@c, @c, @small)", "@S.split()[@small]", "@S.split(@c)[@small]", "@S.split(@c, 1)[-1]",
          "@S.removeprefix(@c)", "@S.removesuffix(@c)", "@S.join(@L)", "@S.@justify(@i)", "@S.@justify(@i, '*')", "@S.zfill(@i)",
          "@S.expandtabs()", "@S.expandtabs(2)", "@S.format(@A, @A, x=@A)", "'@brace'.format(@A0, @N0, x=@A0)",
          "'@brace|@brace'.format(@N0, @S0, x=@A0)", "'@percent' % @S0", "'@percent' % @N0", "'@percent @percent' % (@A0, @N0)", "'@percent' % @D0",
          "@S|@text", "@A|@text", "@A|tojson@json", "@A|tojson@json", "@A|string", "@S|indent@indent", "@L|join@join", "@A if @B else @A",
          "@A if @B", "@A|default(@A)", "@A|d(@A, true)", "@A or @S", "@S and @A", "@S|@escape", "(@S|@escape) + @S", "@S|truncate@truncate",
          "@S.partition(@c)|string", "@S.rpartition(@c)|string", "strftime_now('@time')", "(@S|@escape) * 2", "(@S|@escape) ~ @S",
          "(@S|@escape).replace('&', '<')", "(@S|e) % (@A0, 1)", "(', '|e).join(@L)"],
    "mapping": "upper lower title capitalize swapcase casefold",
    "strip": "strip lstrip rstrip",
    "justify": "center ljust rjust",
    "escape": "e escape safe forceescape",
    "slice": ["@bound:@bound", "@bound:@bound:@step", "::-1"],
    "bound": ["", "", "1", "-1", "2", "0", "-3", "n", "100", "none"],
    "step": ["", "2", "-1", "-2", "1", "0", "none"],
    "text": ["upper", "lower", "title", "capitalize", "trim", "trim('a ')", "string", "length", "wordcount", "reverse", "center(9)",
             "replace('a', 'bb')", "replace('l', 'L', 1)", "list", "first", "last", "int", "float", "e", "format(1, 2)", "count"],
    "json": ["", "", "()", "(indent=2)", "(indent=4, sort_keys=true)", "(ensure_ascii=true)", "(separators=(',', ':'))", "(sort_keys=True)",
             "(indent=1, separators=(',', ' = '))", "(true)", r"(indent='\t')", "(indent=0)"],
    "indent": ["", "(2)", "(2, true)", "(1, true, true)", "(width='> ', blank=true)"],
    "join": ["", "(', ')", "(o)", "('-', attribute='name')", "('-', 'age')"],
    "truncate": ["(3)", "(5, true)", "(6, false, '…')", "(8, true, '', 0)", "(7, leeway=1)"],
    "time": ["%Y-%m-%d", "%d %b %Y", "%H:%M", "%A %j", "%%", "%y%f%Z", "%B %-d, %p", "é%S"],
    "brace": ["{@field@spec}", "{@field@spec}", "{@field@spec}", "{{}}", "{", "}", "{x:{1}}"],
    "field": ["", "", "0", "1", "x", "x.name", "x[0]", "x[k]", "0.role"],
    "spec": ["", "", ":>8", ":<5", ":^7", ":*^9", ":05", ":+d", ":.2f", ":,", ":_", ":x", ":#x", ":e", ":%", ":.3", ":s", ":10.3f", ":<08",
             "!r", "!s:>9", "!a", ":g", ":+.1e", ":012,", ":o", ":b", ":é^9", ":=+6"],
    "percent": ["%@flag@type", "%@flag@type", "%%", "x%@type"],
    "flag": ["", "", "", "-", "+", " ", "0", "#", "05", "-6", ".2", "8.3", "*", "(x)", "(name)"],
    "type": "s s d d i r x X o e E f g G c a",
    "N": ["@N @op @N", "@N @op @N", "@base ** @exponent", "-@N", "+@N", "@S|length", "@L|length", "@S|int", "@S|int(5)", "@S|int(0, 16)",
          "@S|int(base=2)", "@A|int", "@A|float", "@A|float(1.5)", "@N|abs", "@N|round", "@N|round(1)", "@N|round(2, 'floor')",
          "@N|round(0, 'ceil')", "@N|round(-1)", "@N|round(3)", "@L|sum", "@L|sum(attribute='age')", "@L|sum(start=10)", "@L|@extreme",
          "@L|@extreme(attribute='age')", "@L|@extreme(true)", "@S.@find(@c)", "@S.@find(@c, 1)", "@S.@find(@c, -3, 5)", "@L.@item(@A0)",
          "@N.@part", "@S|wordcount", "(@N if @B else @N)"],
    "op": "+ - * / // %",
    "base": "2 10 0.5 f 3",
    "exponent": "2 3 0 -1 0.5",
    "extreme": "min max",
    "find": "find rfind count index rindex",
    "item": "index count",
    "part": "real imag numerator bit_length() is_integer()",
    "L": ["[@A, @A]", "(@A, @A)", "@L + @L", "@L * 2", "@L[@slice]", "@L|sort@sort", "@L|unique|list", "@L|unique(true)|list",
          "@L|unique(attribute='age')|list", "@L|reverse|list", "@L|@select|list", "@L|@select(@test)|list", "@L|@selectattr('@key')|list",
          "@L|@selectattr('@key', @test)|list", "@L|map(attribute='@key')|list", "@L|map(attribute='@key', default=9)|list",
          "@L|map('@text1')|list", "@L|@batch(@small)|list", "@L|@batch(3, '-')|list", "@L|groupby('@key')",
          "@L|groupby('@key', default='')", "@L|groupby('@key', case_sensitive=true)", "@L|list", "@S|list", "@S.@split()", "@S.@split(',')",
          "@S.@split(none, 1)", "@S.@split('a', 1)", "@S.@split(maxsplit=1)", "@S.@split(sep=' ')", "@S.splitlines()", "@S.splitlines(true)",
          "range(@small, @small, @small)|list", "range(@small)", "@D.@view()|list", "@D|dictsort", "@D|dictsort(true)",
          "@D|dictsort(false, 'value')", "@D|dictsort(reverse=true)", "@D|items|list", "@D.@view()"],
    "sort": ["", "(reverse=true)", "(attribute='name')", "(case_sensitive=true)", "(attribute='age,name')", "(true, true)"],
    "select": "select reject",
    "selectattr": "selectattr rejectattr",
    "key": "name age role tag x.y 0 function.name nope content",
    "text1": "upper string length int tojson first trim title default",
    "batch": "batch slice",
    "split": "split rsplit",
    "view": "keys values items",
    "test": ["'odd'", "'even'", "'string'", "'number'", "'defined'", "'none'", "'in', [1, 2]", "'equalto', 1", "'>', 1", "'mapping'",
             "'divisibleby', 2", "'ne', 'a'", "'lower'", "'iterable'", "'sequence'", "'true'", "'undefined'", "'nosuch'", "'eq', @A0"],
    "D": ["{@c: @A, @A0: @A}", "{@c: @A}", "dict(@D, z=@A)", "dict(q)", "namespace(a=@A, b=2)", "@D.copy()", "@L|first", "dict.fromkeys(@L0, @A0)"],
    "mixed": ["@A.@member", "@A[@A]", "@A|@filter", "@D.get(@A0)", "@D.get(@A0, @A0)", "@A|attr('@member')", "@A @op @A", "@A @logic @A",
              "@variable[@slice]", "@A()", "@A|map('upper')|list", "(@A|select|list)[0]", "@A|last|default('none')"],
    "member": "name x y append _x real start 0 1 role content k",
    "filter": "first last list length string max min sum d items|list reverse|list tojson title safe abs sort",
    "logic": "and or",
    "B": ["@A is @is", "@A is not @is", "@A @compare @A", "@N @compare @N", "@A in @L", "@A not in @L", "@S in @S", "not @A", "@B @logic @B",
          "@S.@predicate()", "@S.@affix(@c)", "@S.@affix(('a', ' '))", "@S.@affix('H', 1)", "@N0 < @N0 <= @N0", "@A == @A != @A"],
    "compare": "== != < > <= >=",
    "is": ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "true", "false",
           "callable", "odd", "even", "lower", "upper", "divisibleby 2", "divisibleby(3)", "eq 1", "in [1, 'a', none]", "sameas true",
           "equalto 'a'", "ne 0", "gt 1", "lessthan(3)", "ge 0", "escaped", "in(l)", "filter", "test", "nosuch"],
    "predicate": "isdigit isalpha isspace isupper islower istitle isalnum isnumeric isdecimal isidentifier isascii isprintable",
    "affix": "startswith endswith",
    # Statements. "<%" and "%>" stand for delimiters with any sign.
    "output": ["{{ @A }}", "{{ @A }}", "{{- @A }}", "{{ @A -}}"],
    "gap": ["", "", " ", "\n", "\n  ", "text", " x\n", "\n\n", "\t", "é\n", "{# note #}", "{#- n -#} ", "\n {# c #}\n"],
    "T0": ["@gap@output@gap", "@gap@output@gap@output"],
    "T": ["@gap@statement@gap", "@gap@statement@output@gap", "@gap@output@gap@statement@gap", "@gap@statement@gap@statement@gap"],
    "statement": ["@for", "@for", "@for", "@if", "@if", "@set", "@set", "@setblock", "@namespace", "@macro", "@macro", "@call", "@recursive",
                  "<% filter @blockfilter %>@T<% endfilter %>", "<% with va = @A, vb = @A0 %>@T<% endwith %>",
                  "<% generation %>@T<% endgeneration %>", "<% raw %>@raw<% endraw %>", "<% print @A %>"],
    "for": ["<% for @target in @L@forif %>@T@jump<% endfor %>", "<% for @target in @L@forif %>@T@jump<% else %>@T<% endfor %>",
            "<% for @target in @pairs@forif %>@T@jump<% endfor %>", "<% for va in @A %>@T<% endfor %>"],
    "target": ["va", "va", "va", "va, vb", "(va, vb)", "va, (vb, vc)"],
    "pairs": ["d.items()", "q", "r", "messages", "q|reverse", "q|select", "d|dictsort", "[1, 1, 2, 3]|select"],
    "forif": ["", "", "", " if va", " if va is string", " if loop is defined", " if @B", " if va != n"],
    "jump": ["", "", "", "<% if @B %><% break %><% endif %>", "<% if @B %><% continue %><% endif %>x", "<% if loop.index > 1 %><% break %><% endif %>"],
    "if": ["<% if @B %>@T<% endif %>", "<% if @B %>@T<% else %>@T<% endif %>", "<% if @B %>@T<% elif @B %>@T<% else %>@T<% endif %>",
           "<% if @B %><% set @name = @A %><% endif %>{{ @variable }}"],
    "set": ["<% set @name = @A %>{{ @variable }}", "<% set va = @A %>{{ va }}", "<% set va, vb = @two %>{{ va }}{{ vb }}", "<% set s = @S %>{{ s }}"],
    "two": ["(1, 2)", "'ab'", "q[0]", "@A, @A", "@A", "q", "d.items()"],
    "setblock": ["<% set @name %>@T<% endset %>[{{ @variable }}]", "<% set va @blockpipe %>@T<% endset %>[{{ va }}]"],
    "blockpipe": ["| upper", "| trim | length", "| indent(2)", "| replace('a', 'b')"],
    "blockfilter": ["upper", "trim", "indent(3)", "replace('a', s)", "length", "title | trim"],
    "namespace": ["<% set ns = namespace(a=@A, i=0) %><% for va in @L %><% set ns.@assign %>@T<% endfor %>{{ ns.a }}{{ ns.i }}{{ ns.nope }}"],
    "assign": ["i = ns.i + 1", "a = va", "a, ns.i = va, 3", "_x = 1"],
    "macro": ["<% macro m(@signature) %>@T@special<% endmacro %>{{ m(@given) }}", "<% macro m(@signature) %>@T<% endmacro %>{{ m(@given) }}{{ m }}"],
    "signature": ["va", "va, vb=1", "va, vb=va", "vb=s, vc=none", ""],
    "given": ["@A", "@A, @A", "vb=@A", "@A, vb=@A", "", "*[@A, 1]", "**{'va': @A}", "@A, 1, 2, z=2"],
    "special": ["", "{{ varargs }}", "{{ kwargs }}", "{{ caller is defined }}", "{{ caller() }}", "{{ m.name }}{{ m.arguments }}"],
    "call": ["<% macro m(va) %><{{ caller(@hand) }}><% endmacro %><% call@receive m(@A) %>@T<% endcall %>"],
    "hand": ["", "va", "1, 2"],
    "receive": ["", "(vc)", "(vc, vb=2)"],
    "recursive": ["<% for va in @L recursive %>{{ va }}<% if va is iterable and va is not string and va is not mapping %><{{ loop(va) }}><% endif %>"
                  "{{ loop.depth }}<% endfor %>"],
    "raw": ["{{ x }}", "{% if %}", " {# #} ", "\n"],
}
GRAMMAR = {name: rules.split() if isinstance(rules, str) else rules for name, rules in GRAMMAR.items()}

VARIABLES = ["va", "vb", "vc", "s", "n", "l", "ns.a", "loop.index", "loop.index0", "loop.first", "loop.last", "loop.length", "loop.revindex",
             "loop.revindex0", "loop.previtem", "loop.nextitem", "loop.cycle('o', 'e')", "loop.changed(va)", "loop.depth", "loop"]


class SnippetGenerator:
    def __init__(self, random):
        self.random = random

    def expand(self, name, depth):
        if name == "variable":
            return self.random.choice(VARIABLES)
        if len(name) == 1 and name.isupper() and depth <= 0:
            name += "0"
        if name == "T":
            depth -= 1
        rule = self.random.choice(GRAMMAR[name])
        if name in ("A", "B", "S", "N", "L", "D"):
            depth -= 1 if self.random.random() < 0.7 else 2
        out = ""
        parts = re.split(r"@([A-Z]0|[A-Z]|[a-z]+1?)", rule)
        for i, part in enumerate(parts):
            if i % 2 == 0:
                out += part
                continue
            inside = depth
            if name in ("T", "output", "statement", "for", "if", "set", "setblock", "namespace", "macro", "call", "recursive", "two", "given") \
                    and part in ("A", "B", "S", "N", "L", "D"):
                inside = self.random.randint(0, 2)
            text = self.expand(part, inside)
            if part in ("A", "S", "N", "L", "D") and name != "output" and not re.fullmatch(r"\w+", text):
                text = f"({text})"
            out += text
        return out

    def sign(self, text):
        opening = lambda _: self.random.choice(["{%", "{%", "{%-", "{%+"])  # noqa: E731
        closing = lambda _: self.random.choice(["%}", "%}", "-%}", "+%}"])  # noqa: E731
        return re.sub(r"%>", closing, re.sub(r"<%", opening, text))

    def damage(self, text):
        """A slip of the pen."""
        at = self.random.randrange(len(text) + 1)
        return self.random.choice([text[:at] + text[at + 1:], text[:at] + self.random.choice("{}%()[]|.,'\"-+ \n") + text[at:],
                                   text[:at] + text[at:at + 3][::-1] + text[at + 3:]])

    def template(self):
        kind = self.random.random()
        if kind < 0.5:
            text = self.expand("output", self.random.randint(0, 4))
        else:
            text = self.sign(self.expand("T", self.random.randint(1, 3)))
        return self.damage(text) if self.random.random() < 0.04 else text


HAND_WRITTEN = [
    # Scoping.
    "{{ x }}{% for i in [1, 2] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "{% for i in [1] %}{{ s }}{% endfor %}{% set s = 1 %}{{ s }}",
    "{% macro m() %}{{ s }}{% endmacro %}{{ m() }}{% set s = 1 %}{{ m() }}",
    "{% if false %}{% set s = 1 %}{% endif %}{{ s }}",
    "{% set s = s + '!' %}{{ s }}",
    "{% for i in [1, 2] %}{% set s = s ~ i %}{{ s }}{% endfor %}{{ s }}",
    "{% with s = 1, t = s %}{{ s }}{{ t }}{% endwith %}{{ s }}",
    "{% for s in 'ab' %}{{ s }}{% else %}{{ s }}{% endfor %}{{ s }}",
    "{% for a in [] %}{% else %}{{ a }}|{{ s }}{% endfor %}",
    "{% for a in [1] %}{% continue %}{% else %}E{% endfor %}",
    "{% for a in [1, 2] %}{% break %}{% else %}E{% endfor %}",
    "{% for a in [1, 2, 3] %}{% set z %}a{% if a == 2 %}{% break %}{% endif %}{% endset %}{{ z }}{% endfor %}",
    "{% macro outer() %}{% macro inner(a) %}{{ a }}{{ b }}{% endmacro %}{{ inner(1) }}{% endmacro %}{{ outer() }}",
    "{% for i in range(3) %}{% macro m() %}{{ i }}{{ loop.index }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% set ns = namespace() %}{% for i in range(3) %}{% macro m() %}{{ i }}{% endmacro %}{% if i == 0 %}{% set ns.m = m %}{% endif %}{{ ns.m() }}{% endfor %}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% for a in q %}{% for a in a %}{{ a }}{{ loop.index }}{% endfor %}{{ a }}{{ loop.index }}{% endfor %}",
    "{% set loop = 1 %}{{ loop }}", "{% for i in l %}{% set loop = 1 %}{% endfor %}", "{% for loop in l %}{{ loop }}{% endfor %}",
    "{% set x | default(y9) %}a{% endset %}", "{% set x | default(s) %}{{ s }}{% endset %}{{ x }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m() }}|{{ m(1) }}|{{ m(b=2) }}|{{ m(1, 2, 3) }}",
    "{% macro m(a=b, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ m() }}", "{% macro m(a, a) %}{% endmacro %}", "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m(caller) %}{{ caller() }}{% endmacro %}", "{% macro m(caller=none) %}{{ caller is none }}{% endmacro %}{{ m() }}{% call m() %}x{% endcall %}",
    "{% macro m() %}{{ caller('a', b='c') }}{% endmacro %}{% call(x, b) m() %}{{ x }}{{ b }}{{ s }}{% endcall %}",
    "{% call s.upper() %}x{% endcall %}", "{% call 5 %}{% endcall %}", "{% call(a) range(3) %}{% endcall %}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, a=3) }}", "{{ m(1) }}{% macro m(x) %}{{ x }}{% endmacro %}",
    "{% set a, b = 'xy' %}{{ a }}{{ b }}", "{% set a, b = [1] %}", "{% set (a, (b, c)) = (1, 'xy') %}{{ a }}{{ b }}{{ c }}", "{% set a.b = 1 %}",
    "{% set ns = namespace({'a': 1}, b=2) %}{% set ns.a, c = ns.b, 5 %}{{ ns.a }}{{ c }}{{ ns }}{{ ns['b'] }}{{ ns.zz is defined }}",
    "{% set ns = namespace() %}{% set ns._a = 1 %}", "{{ namespace(_a=1) }}", "{% set ns = namespace() %}{% set ns.ns = ns %}{{ ns }}",
    "{% set true = 1 %}", "{% set None = 1 %}", "{% set [a] = 1 %}", "{% for a.b in l %}{% endfor %}", "{% set x = 1, %}{{ x }}", "{% set x = %}",
    # Loops.
    "{% for x in l recursive %}{{ x }}{% endfor %}", "{% for x in [1, [2, [3]], 4] recursive %}{% if x is number %}{{ loop.depth }}:{{ x }} {% else %}({{ loop(x) }}){% endif %}{% endfor %}",
    "{% for x in l %}{{ loop(l) }}{% endfor %}", "{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}{{ x }}{{ loop.last }}{% else %}none{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for x in range(9) if ns.n < 2 %}{% set ns.n = ns.n + 1 %}{{ x }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for x in range(9) if ns.n < 2 %}{% set ns.n = ns.n + 1 %}{{ x }}{{ loop.last }}{% endfor %}",
    "{% for x in l|select %}{{ loop.length }}{{ loop.revindex0 }}{% endfor %}", "{% for x in l|map('string') %}{{ loop.last }}{{ loop.nextitem }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for a, b in d %}{% endfor %}",
    "{% for x in 5 %}{% endfor %}", "{% for x in none %}{% endfor %}", "{% for x in missing %}{% else %}e{% endfor %}", "{% for x in missing.a %}{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle(1, 2) }}{{ loop.previtem is defined }}{% endfor %}", "{% for x in l %}{{ loop.cycle() }}{% endfor %}",
    "{% for x in l %}{{ loop|length }}{{ loop }}{% endfor %}", "{% break %}", "{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for x in l %}{% generation %}{% continue %}{% endgeneration %}{% endfor %}", "{% for x in 'ab' %}{% for y in 'cd' %}{% if y == 'd' %}{% break %}{% endif %}{{ x }}{{ y }}{% endfor %}{% endfor %}",
    # White space.
    "  {% if b %}\n  x\n  {% endif %}\n y\n", "a  {%- if b -%}  x  {%- endif -%}  b", " {%+ if b %} x {% endif +%}\nz", "{{ 1 }}\n{{ 2 -}}\n {{- 3 }}\n",
    "{# a #}\nb\n{# c -#}\n d", "\n\n{% set a = 1 %}\n\n{{ a }}\n\n", "x\r\ny\rz\n", "{% raw %}\n {{ a }}\n{% endraw %}\nx", " {%- raw -%} a {%- endraw -%} b", "x {% raw %} {% endraw %}\n",
    "\t{% if b %}\t{% endif %}\t|", "a {% set x = 1 %} b", "{% if b %} {% set x = 1 %}\n{% endif %}.", "{{- 5 }}", "{{-5 }}", "{{ -5 }}", "{%+ set x = 1 +%}\n.", "{# {{ #}.{# a #} {#- b -#} .",
    " \u00a0{% if b %}x{% endif %}", "{{ '{{' }}{{ '}}' }}{{ '%}' }}", "{ {% if b %}{ }{% endif %} {x}", "{{ {'a': {}} }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "#{# #}#}", "a{%", "a{{", "a{#", "{% raw %}x", "{%raw%}{%endraw%}",
    "{% if b%}{%endif%}x", "{%- endif %}", "{% if b %}", "{% endfor %}", "{% nosuch %}", "{% %}", "{{ }}", "{{ 1 2 }}", "{{ ) }}", "{{ (1 }}", "{{ [1) }}", "{{ 'a }}", "{{ a b }}", "{{ 1 if }}", "{{ @ }}", "{{ $x }}", "{{ a ! b }}",
    # Literals.
    "{{ 'a\\'b' }}{{ \"a\\\"b\" }}{{ 'a\\\\n\\n' }}{{ '\\x41\\u00e9\\U0001f600\\101\\0' }}", "{{ '\\é' }}{{ '\\d' }}{{ 'a\\\nb' }}", "{{ '\\x4' }}", "{{ '\\u12' }}", "{{ 'a' \"b\" 'c' }}",
    "{{ 1_000 }}{{ 0x_ff }}{{ 0o17 }}{{ 0b1 }}{{ 1e3 }}{{ 1.5e-3 }}{{ 1_0.0_1 }}{{ 00 }}", "{{ 007 }}", "{{ 1. }}", "{{ .5 }}", "{{ 1__0 }}", "{{ 1.e5 }}", "{{ 2.real }}", "{{ 0xg }}", "{{ 1e }}", "{{ 9007199254740993 }}{{ 12345678901234567890123 }}",
    "{{ [1, 2,] }}{{ (1,) }}{{ () }}{{ {'a': 1,} }}{{ (1) }}{{ [] }}{{ {} }}", "{{ 1, 2 }}", "{{ [,] }}", "{{ True }}{{ true }}{{ None }}{{ none }}{{ TRUE }}", "{{ {1: 2, true: 3, 1.0: 4} }}", "{{ {[]: 1} }}", "{{ {(1, []): 1} }}", "{{ {none: 1, missing: 2} }}",
    "{{ 1.0 }} {{ 1e16 }} {{ 1e15 }} {{ 123456789012345680.0 }} {{ 1e-4 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ -0.0 }} {{ 1e22 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }}", "{{ 'inf'|float }}{{ '-inf'|float }}{{ 'nan'|float }}",
    "{{ ['a', \"it's\", 'q\"', 'b\\n', 'é', '\\x07', '\u200b', '\\\\'] }}", "{{ 'a' is string }}{{ \"it's \\\"x\\\"\"|list|string }}",
    # Operators.
    "{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 % -3 }}{{ -7 % 3 }}{{ 7 / 2 }}{{ 6 / 2 }}{{ 2 ** 10 }}{{ 2 ** -1 }}{{ -2 ** 2 }}{{ 2 ** 3 ** 2 }}", "{{ 1 / 0 }}", "{{ 1 % 0 }}", "{{ 1.0 // 0 }}", "{{ 0 ** -1 }}", "{{ 7.5 // 2 }}{{ -7.5 % 2 }}{{ 1e308 * 10 }}",
    "{{ 'a' * 3 }}{{ 3 * 'a' }}{{ [1] * 2 }}{{ 'a' * -1 }}{{ 'a' * 1.0 }}", "{{ 'a' + 1 }}", "{{ 1 + 'a' }}", "{{ [1] + (2,) }}", "{{ none + 1 }}", "{{ 1 ~ none ~ true ~ [1] ~ missing }}", "{{ true + true }}{{ true * 'x' }}{{ -true }}{{ +false }}{{ not true }}",
    "{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 1 == 1.0 == true }}{{ 'a' < 'b' }}{{ [1, 2] < [1, 3] }}{{ 1 != 1 }}", "{{ 1 < 'a' }}", "{{ none < 1 }}", "{{ {} < {} }}", "{{ missing < 1 }}", "{{ [1] == (1,) }}{{ {'a': 1} == {'a': 1.0} }}{{ missing == missing2 }}{{ missing == none }}",
    "{{ 'a' in 'abc' }}{{ 1 in 'abc' }}", "{{ 'x' in d }}{{ 1 in l }}{{ 1.0 in l }}{{ 'x' not in d }}{{ none in [none] }}{{ missing in l }}", "{{ 1 in 5 }}", "{{ [] in d }}", "{{ 1 in none }}", "{{ 'a' in missing }}", "{{ missing in 'abc' }}",
    "{{ 0 or 'a' }}{{ '' and 1 }}{{ 1 and 2 }}{{ none or false or 0 }}{{ not '' }}{{ not not 1 }}{{ 1 or 1/0 }}", "{{ 1 if 0 else 2 if 0 else 3 }}{{ 1 if 0 }}{{ (1 if 0) is undefined }}", "{{ b and c or n }}", "{{ not 1 == 2 }}{{ not (1 in l) }}{{ 1 not in l }}",
    "{{ -n|abs }}{{ -1|abs }}{{ (-1)|abs }}{{ 2 * 3|string }}{{ 'a' ~ 1 + 2 }}{{ 1 + 2 ~ 'a' }}", "{{ +'a' }}", "{{ -none }}", "{{ -missing }}", "{{ 1 is 1 }}", "{{ 1 is not odd }}", "{{ 3 is odd is even }}", "{{ 1 is divisibleby 2 or true }}",
    # Subscripts.
    "{{ s[0] }}{{ s[-1] }}{{ s[99] }}{{ s[1:3] }}{{ s[::-1] }}{{ s[-3:] }}{{ s[:-3] }}{{ s[5:2] }}{{ s[::2] }}{{ s[4:1:-1] }}", "{{ l[::-1] }}{{ l[1:] }}{{ l[-2:] }}{{ l[:1] }}{{ l[::-2] }}{{ l[10:] }}{{ (1, 2, 3)[::2] }}", "{{ s[::0] }}", "{{ d[1:2] }}", "{{ missing[1:2] }}", "{{ s['a':] }}",
    "{{ p[0] }}{{ p[1] }}{{ p[::-1] }}{{ p|length }}{{ p[1:] }}{{ t[3:9] }}", "{{ range(10)[2:8:2] }}{{ range(5)[1] }}{{ range(5)[-1] }}{{ range(3) == range(3) }}{{ range(1, 0)|length }}", "{{ l[true] }}{{ l['0'] }}{{ l[1.0] }}{{ l[none] }}", "{{ d['x'] }}{{ d.x }}{{ d.items }}{{ d['items'] }}{{ d.nope }}{{ d['nope'] }}".replace("{{ d.items }}", ""),
    "{{ missing.a }}", "{{ missing['a'] }}", "{{ none.a }}", "{{ none.a.b }}", "{{ d.nope.x }}", "{{ s.nope }}|{{ n.nope }}|{{ l.append }}|{{ l.append is defined }}|{{ d.update is defined }}|{{ d.__class__ }}|{{ s.__len__ }}", "{{ l.append(1) }}", "{{ d.pop('x') }}", "{{ d.update({}) }}", "{{ d.setdefault('a') }}", "{{ l.sort() }}", "{{ s.__class__.mro() }}",
    "{{ q[0][1] }}{{ q.0.1 }}{{ q[0].1 }}{{ d.y.0 }}", "{{ d[['a']] }}", "{{ l[0, 1] }}", "{{ l[1:2, 0] }}", "{{ s.upper }}".replace("{{ s.upper }}", "{{ s.upper() }}"), "{{ n() }}", "{{ missing() }}", "{{ s.upper(1) }}", "{{ s.nope() }}", "{{ [s.upper][0]() }}",
    # Strings.
    "{{ u.split(',') }}{{ u.split(',', 1) }}{{ u.rsplit(',', 1) }}{{ ' a  b '.split() }}{{ ' a  b '.split(' ') }}{{ ' a b c '.split(none, 1) }}{{ ' a b c '.rsplit(none, 1) }}{{ ''.split() }}{{ ''.split(',') }}", "{{ 'a'.split('') }}", "{{ u.split(sep=',', maxsplit=1) }}", "{{ 'abc'.replace('', '-') }}{{ 'aaa'.replace('a', 'b', 2) }}{{ ''.replace('', 'x') }}", "{{ 'a'.replace(old='a', new='b') }}",
    "{{ '</think>x'.split('</think>')[-1].lstrip('\\n') }}{{ 'xxabxx'.strip('x') }}{{ 'xyab'.lstrip('yx') }}{{ ' a\\t'.strip() }}|{{ t.strip() }}|", "{{ 'abc'.startswith('a') }}{{ 'abc'.startswith(('x', 'ab')) }}{{ 'abc'.endswith('c', 1, 3) }}{{ 'abc'.startswith('') }}{{ 'abc'.startswith('', 4) }}", "{{ 'abc'.startswith(1) }}", "{{ 'abc'.startswith(['a']) }}",
    "{{ 'straße'.upper() }}{{ 'ǅungla'.lower() }}{{ 'ΑΣ ΑΣΑ'.lower() }}{{ 'ﬁn'.title() }}{{ 'they\\'re bill\\'s'.title() }}{{ 'they\\'re-x (y'|title }}{{ 'ŉx'.capitalize() }}{{ 'İ'.lower() }}{{ 'ß'.casefold() }}{{ 'aBß'.swapcase() }}", "{{ '²'.isdigit() }}{{ '½'.isnumeric() }}{{ '٣'.isdecimal() }}{{ '一'.isnumeric() }}{{ 'ªa'.islower() }}{{ 'Ⅷ'.isupper() }}{{ 'Ab'.istitle() }}{{ 'a1'.isalnum() }}{{ ''.isalpha() }}{{ ''.isascii() }}{{ '\\t'.isspace() }}",
    "{{ 'a\\nb\\r\\nc\\x0bd\\u2028e\\x85f\\n'.splitlines() }}{{ 'a\\n'.splitlines(true) }}{{ ''.splitlines() }}", "{{ 'a-b-c'.partition('-') }}{{ 'a-b-c'.rpartition('-') }}{{ 'abc'.partition('-') }}{{ 'abc'.rpartition('-') }}", "{{ 'ab'.center(5, '*') }}{{ 'abc'.center(6, '*') }}{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4, 'é') }}{{ '-5'.zfill(5) }}{{ 'a\\tb'.expandtabs(4) }}", "{{ 'ab'.center(5, 'xx') }}",
    "{{ 'xabx'.find('ab') }}{{ 'éab'.find('b') }}{{ 'abab'.rfind('ab') }}{{ 'abab'.count('ab') }}{{ 'aaa'.count('') }}{{ 'abc'.find('z') }}{{ 'abc'.index('c') }}", "{{ 'abc'.index('z') }}", "{{ ','.join(['a', 'b']) }}{{ ','.join('ab') }}{{ ','.join(d) }}", "{{ ','.join([1]) }}", "{{ 'abc'.removeprefix('a').removesuffix('c') }}",
    "{{ '%s is %d years, %.2f%% %5s|%-5s|%05d|%x|%r' % ('Al', 3, 1.5, 'a', 'b', 42, 255, 'q') }}", "{{ '%s' % 1 }}{{ '%s' % [1] }}{{ '%s %s' % (1, 2) }}{{ '%(a)s' % {'a': 1} }}{{ 'x' % [] }}", "{{ '%s %s' % 1 }}", "{{ '%s' % (1, 2) }}", "{{ '%d' % 'a' }}", "{{ '%q' % 1 }}", "{{ '%' % 1 }}", "{{ '%c%c' % (65, 'b') }}{{ '%+d % d %#x %#o %e %g %G' % (1, 1, 255, 8, 12345.678, 0.00001, 1e20) }}{{ '%.3s|%*d' % ('abcdef', 5, 3) }}", "{{ '%s and %s'|format('a', 1) }}{{ '%(x)s'|format(x=2) }}",
    "{{ '{} {}'.format(1, 'a') }}{{ '{1}{0}'.format(1, 2) }}{{ '{a.x}{a[y][0]}'.format(a=d) }}{{ '{:>5}|{:<5}|{:^5}|{:05d}|{:.1f}|{:,}'.format(1, 2, 3, 4, 2.55, 1234567) }}{{ '{{}}'.format() }}{{ '{!r}'.format('a') }}", "{{ '{}'.format() }}", "{{ '{x}'.format(1) }}", "{{ '{0}{}'.format(1, 2) }}", "{{ '{:d}'.format('a') }}", "{{ '{:>{w}}'.format('a', w=4) }}{{ '{a}'.format_map({'a': 1}) }}", "{{ '{.__class__}'.format(1) }}",
    # Filters.
    "{{ d|tojson }}{{ [1, 2.0, none, true, 'é<>&\\'\\u2028\\x7f']|tojson }}{{ 'é😀'|tojson(ensure_ascii=true) }}{{ {}|tojson(indent=2) }}{{ []|tojson(indent=2) }}", "{{ d|tojson(indent=2) }}\n{{ d|tojson(indent=2, sort_keys=true) }}", "{{ d|tojson(separators=(',', ':')) }}{{ {1: 2, true: 3, none: 4, 1.5: 5}|tojson }}", "{{ missing|tojson }}", "{{ {(1,): 2}|tojson }}", "{{ range(3)|tojson }}", "{{ l|map('string')|tojson }}",
    "{{ 'nan'|float|tojson }}{{ 'inf'|float|tojson }}{{ 1e22|tojson }}{{ 12345678901234567890|tojson }}{{ '\\u0001\\t\\\"\\\\/'|tojson }}", "{{ d|tojson(4) }}{{ d|tojson(false, 1) }}", "{{ {'b': 1, 1: 2}|tojson(sort_keys=true) }}", "{{ namespace(a=1)|tojson }}", "{{ tools|tojson }}", "{% for t in tools %}{{ t | tojson(indent=4) }}\n{% endfor %}",
    "{{ missing|default('x') }}{{ ''|default('x') }}{{ ''|default('x', true) }}{{ none|d('x') }}{{ missing.a|default('x') }}", "{{ d.nope|default(5) }}{{ d.nope|d }}{{ 0|default(1, boolean=true) }}", "{{ '  a '|trim }}|{{ 'xax'|trim('x') }}{{ 5|trim }}", "{{ l|join }}{{ l|join('-') }}{{ r|join(',', attribute='name') }}{{ 5|join }}", "{{ s|length }}{{ l|count }}{{ d|length }}{{ missing|length }}", "{{ 5|length }}", "{{ none|length }}",
    "{{ l|first }}{{ l|last }}{{ []|first }}{{ []|last }}{{ 'abc'|first }}{{ d|first }}{{ d|last }}{{ l|map('string')|first }}", "{{ l|map('string')|last }}", "{{ 5|first }}", "{{ l|select|length }}", "{{ l|select is defined }}{% if []|select %}T{% endif %}", "{{ l|sort }}{{ l|sort(reverse=true) }}{{ k|sort }}{{ k|sort(case_sensitive=true) }}{{ r|sort(attribute='age')|map(attribute='name')|list }}{{ d|sort }}", "{{ [1, 'a']|sort }}", "{{ [none, 1]|max }}",
    "{{ r|selectattr('tag', 'equalto', 'x')|list }}{{ r|selectattr('tag', 'defined')|list|length }}{{ r|rejectattr('tag')|list|length }}{{ l|select('odd')|list }}{{ l|reject('>', 1)|list }}", "{{ l|select('nosuch')|list }}", "{{ l|map('nosuch')|list }}", "{{ l|map|list }}", "{{ []|map|list }}{{ []|selectattr|list }}", "{{ r|map(attribute='age', default=0)|sum }}{{ r|map(attribute='tag', default='-')|join }}{{ r|map('attr', 'name')|list }}",
    "{{ [1, '1', 1.0, true, 'a', 'A']|unique|list }}{{ k|unique(true)|list }}{{ l|reverse|list }}{{ 'abc'|reverse }}{{ l|batch(2)|list }}{{ l|batch(2, 0)|list }}{{ range(7)|slice(3)|list }}{{ range(7)|slice(3, 'x')|list }}", "{% for age, items in r|groupby('age') %}{{ age }}:{{ items|map(attribute='name')|join(',') }};{% endfor %}{{ (r|groupby('age'))[0].grouper }}{{ (r|groupby('age'))[0].list|length }}", "{{ d|dictsort }}{{ {'b': 1, 'A': 2}|dictsort(by='value') }}", "{{ d|dictsort(by='x') }}", "{{ d|items|list }}{{ missing|items|list }}", "{{ l|items|list }}",
    "{{ '3'|int }}{{ '3.7'|int }}{{ 'x'|int }}{{ 'x'|int(5) }}{{ '0x1f'|int(0, 16) }}{{ '1_000'|int }}{{ none|int }}{{ 3.9|int }}{{ -3.9|int }}{{ true|int }}{{ ' 7 '|int }}{{ '٣'|int }}{{ 'nan'|float|int }}", "{{ 'inf'|float|int }}", "{{ missing|int }}", "{{ '1.5'|float }}{{ 'x'|float }}{{ 'x'|float(2) }}{{ none|float }}{{ '1e3'|float }}{{ ' 1_0.5 '|float }}{{ l|float }}", "{{ 2.5|round }}{{ 3.5|round }}{{ 2.675|round(2) }}{{ 1234|round(-2) }}{{ 2.1|round(0, 'ceil') }}{{ 2.19|round(1, 'floor') }}{{ 5|round }}{{ -0.5|round }}{{ 25|round(-1) }}", "{{ 2.5|round(1, 'up') }}", "{{ 'a'|round }}", "{{ [1, 2.5]|sum }}{{ [[1], [2]]|sum(start=[]) }}{{ []|sum }}", "{{ ['a']|sum }}",
    "{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb'|indent(2, blank=true) }}|{{ 'a\\nb'|indent('> ') }}|{{ ''|indent }}", "{{ 5|indent }}", "{{ '<a>&\"\\''|e }}{{ '<'|safe|e }}{{ '<'|e|e }}{{ '<'|e|forceescape }}{{ ('<'|safe) + '<' }}{{ '<' + ('<'|safe) }}{{ ('%s'|safe) % '<' }}{{ ('<'|safe) is escaped }}{{ ['<'|safe] }}{{ ('<'|safe)|upper ~ '<' }}{{ ('{}'|safe).format('<') }}", "{{ 'foo bar baz qux'|truncate(9) }}{{ 'foo bar baz qux'|truncate(9, true) }}{{ 'foo bar'|truncate(5, leeway=0) }}{{ 'a b c'|wordcount }}{{ 'ab'|center(6) }}|", "{{ 'abc'|truncate(1) }}", "{{ 'abc'|list }}{{ (1, 2)|list }}{{ d|list }}{{ 'a'|string }}{{ 5|string + 'a' }}{{ ''|list }}", "{{ 5|list }}", "{{ 'hello world'|capitalize }}{{ 'HELLO'|lower }}{{ 5|upper }}{{ none|upper }}{{ missing|upper }}", "{{ 'a'|replace('a', 1) }}{{ 121|replace(1, 'x') }}{{ 'aaa'|replace('a', 'b', 1) }}", "{{ s|nosuch }}", "{% if false %}{{ s|nosuch }}{% endif %}ok", "{% if true %}{{ s|nosuch }}{% endif %}", "{{ 1 if true else (1|nosuch) }}", "{{ 1 is nosuch }}", "{% if false %}{{ 1 is nosuch }}{% endif %}", "{% if false %}{% for x in l %}{{ x|nosuch }}{% endfor %}{% endif %}", "{% filter upper %}a{{ s }}{% endfilter %}{% filter replace('a', 'b')|upper %}xa{% endfilter %}", "{% filter length %}a{% endfilter %}",
    "{{ l|min }}{{ l|max }}{{ []|min }}{{ k|min }}{{ k|max(case_sensitive=true) }}{{ (r|min(attribute='age')).name }}", "{{ d|attr('x') }}|{{ d|attr('get') is callable }}", "{{ -5|abs }}{{ 'a'|abs }}", "{{ s|default(d, 1, 2) }}", "{{ s|upper(1) }}", "{{ s|trim(nosuch=1) }}",
    # Tests.
    "{{ 1 is number }}{{ true is number }}{{ true is integer }}{{ 1.0 is float }}{{ 'a' is string }}{{ l is sequence }}{{ d is mapping }}{{ d is sequence }}{{ d is iterable }}{{ 'a' is iterable }}{{ 5 is iterable }}{{ missing is iterable }}{{ missing is sequence }}{{ none is none }}{{ missing is none }}{{ range(2) is sequence }}", "{{ 2 is even }}{{ 3 is odd }}{{ 6 is divisibleby(3) }}{{ 1 is eq(1) }}{{ 1 is sameas 1 }}{{ true is sameas true }}{{ 1 is in [1] }}{{ 'a' is lower }}{{ 'A' is upper }}{{ range is callable }}{{ missing is callable }}{{ 'upper' is filter }}{{ 'odd' is test }}{{ true is true }}{{ 1 is true }}{{ 0 is false }}{{ false is boolean }}", "{{ 'a' is odd }}", "{{ none is even }}", "{{ missing is odd }}", "{{ 1 is divisibleby 0 }}", "{{ 'a' is gt 1 }}", "{{ x is defined and x.y }}{{ s is defined and s }}", "{{ 1 is in 5 }}", "{{ 1 is defined(2) }}", "{{ s is string and s is not number }}", "{{ [] is string or l is iterable }}", "{{ 5 is not none }}",
    # Globals.
    "{{ range(3)|list }}{{ range(1, 4)|list }}{{ range(5, 0, -2)|list }}{{ range(3) }}{{ range(0, 9, 2) }}", "{{ range(1000000) }}", "{{ range(1, 2, 0) }}", "{{ range('a') }}", "{{ range() }}", "{{ dict(a=1, b=[2]) }}{{ dict({'a': 1}, b=2) }}{{ dict(q) }}{{ dict.fromkeys('ab', 0) }}", "{{ dict(5) }}", "{{ dict(missing) }}", "{{ raise_exception('boom ' ~ n) }}", "{{ raise_exception() }}", "{% if messages|length > 90 %}{{ raise_exception('no') }}{% endif %}{{ messages|length }}",
    "{{ strftime_now('%Y-%m-%d %H:%M:%S %a %b %d %j %U %% %f|%z|%Z') }}", "{{ strftime_now(5) }}", "{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}", "{{ cycler() }}", "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}c", "{% set range = 5 %}{{ range }}", "{{ namespace }}".replace("{{ namespace }}", "{{ namespace is callable }}{{ dict is callable }}"), "{{ self }}".replace("{{ self }}", "{{ selfish }}"),
    # Calls.
    "{{ d.get('x') }}{{ d.get('zz') }}{{ d.get('zz', 5) }}{{ d.keys()|list }}{{ d.values()|list }}{{ d.items() }}{{ d.keys() }}{{ d.copy() == d }}", "{{ d.get() }}", "{{ d.get([]) }}", "{{ d.get(key='x') }}", "{{ l.index(1) }}{{ l.count(1) }}{{ l.copy() }}{{ (1, 1).count(1) }}{{ 'x' in d.keys() }}{{ 5 in d.values() }}{{ ('x', 1) in d.items() }}", "{{ l.index(99) }}", "{{ dict(*[{'a': 1}], **{'b': 2}) }}", "{{ dict(**[1]) }}", "{{ dict(a=1, a=2) }}", "{{ dict(a=1, **{'a': 2}) }}", "{{ s.split(*[',']) }}", "{{ range(*5) }}", "{{ s.replace('l', 'L', ) }}", "{{ f(a=1, 2) }}", "{{ f(*a, *b) }}", "{{ (2.0).is_integer() }}{{ (5).bit_length() }}{{ (1.5).real }}{{ true.real }}",
    # Conversations.
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}{% if message.content is string %}{{ message['content'] | trim }}{% else %}{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% else %}<image>{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>' }}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{%- for m in messages[::-1] %}{{ loop.index0 }}{{ (messages|length - 1) - loop.index0 }}{{ m.role }}{%- endfor %}", "{{ messages[-1].role if messages }}{{ messages[0]['role'] == 'system' }}", "{{ bos_token }}{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ rest|length }}{{ rest|map(attribute='role')|join(',') }}",
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}", "{% set ns = namespace(found=false) %}{% for m in messages if m.role == 'user' %}{% set ns.found = true %}{% endfor %}{{ ns.found }}", "{% for m in messages %}{% if m.tool_calls is defined and m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.name }}({% for k, v in c.function.arguments|items %}{{ k }}={{ v|tojson }}{{ ', ' if not loop.last }}{% endfor %}){% endfor %}{% endif %}{% endfor %}",
    "{{ (messages|selectattr('role', 'equalto', 'user')|list)[-1].content|string|length if messages }}", "{% generation %}{{ messages|length }}{% endgeneration %}", "{%- set thinking = enable_thinking if enable_thinking is defined else true %}{{ thinking }}{{ enable_thinking is defined and enable_thinking is false }}", "{{ messages }}", "{{ messages|tojson(indent=2) }}", "{{ tools }}", "{{ messages|length > 2 and messages[2].content.split('</think>')[-1].lstrip('\\n') }}",
]
