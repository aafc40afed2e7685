#!/usr/bin/env python3
"""Makes tests/data/tokenizer: small byte-level BPEs trained with HF `tokenizers`, and the ids it gives.

Needs `tokenizers` 0.23.3 and Python 3.11 (Unicode 14). Run from anywhere; the output depends on nothing but this file.

strings.json   {"strings": [...], "young": [...]}: `young` holds code points younger than Unicode 14.
NAME.json      a tokenizer.json.
NAME.golden.json
    cases      each {"name", "patch", "add_special_tokens", "parse_special", "step", "first", "ids"}: the
               tokenizer with a JSON Patch applied, and the ids of strings[first::step].
    young      ids of the young strings.
    own        {"strings", "cases"}: the same for strings that only this tokenizer is tested with.
    decode     [ids, text, text without special tokens]
Ids are written as two base-64 digits each (A-Z a-z 0-9 + /), the high digit first.
"""

import copy
import json
import pathlib
import random
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "tokenizer"
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
CJK = "[一-龥぀-ゟ゠-ヿ]+"

PHRASES = """
The quick brown fox jumps over the lazy dog.|It's what we'd've said, isn't it? They'RE HERE, I'M sure; you'LL see.
Zażółć gęślą jaźń|Příliš žluťoučký kůň úpěl ďábelské ódy|Falsches Üben von Xylophonmusik quält jeden größeren Zwerg
Voix ambiguë d’un cœur qui, au zéphyr, préfère les jattes de kiwis|El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia
À noite, vovô Kowalsky vê o ímã cair no pé do pinguim|Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul IĞDIR
Съешь же ещё этих мягких французских булок, да выпей чаю|Жебракують філософи при ґанку церкви в Гадячі
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ὦ ξεῖν’, ἀγγέλλειν|Բել դղյակի ձախ ժամն|საქართველო ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ
דג סקרן שט בים מאוכזב|نص حكيم له سر قاطع وذو شأن عظيم|راه برای همیشه ۱۲۳۴|ٹھنڈ میں، ایک قحط زدہ گاؤں
ऋषियों को सताने वाले दुष्ट राक्षसों|আমি কাঁচ খেতে পারি|ਗੁਰਮੁਖੀ ਲਿਪੀ|ગુજરાતી લિપિ|நான் கண்ணாடி சாப்பிடுவேன்|నేను గాజు తినగలను
ನಾನು ಗಾಜು ತಿನ್ನಬಲ್ಲೆ|എനിക്ക് ഗ്ലാസ് തിന്നാം|මට වීදුරු කෑමට හැකියි|เป็นมนุษย์สุดประเสริฐเลิศคุณค่า|ຂ້ອຍກິນແກ້ວໄດ້
བོད་སྐད་|ကျွန်တော် ကျွန်မ|ខ្ញុំអាចញុំកញ្ចក់បាន|ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ|አማርኛ ፊደል|ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ|ᐃᓄᒃᑎᑐᑦ|ꦗꦮ ꦄꦏ꧀ꦱꦫ
我能吞下玻璃而不伤身体。他说:“好的,2024年10月。”|我能吞下玻璃而不傷身體|私はガラスを食べられます。ヴァイオリン、キャッシュ|いろはにほへと ちりぬるを
나는 유리를 먹을 수 있어요|키스의 고유조건은 입술끼리 만나야 하고|Tôi có thể ăn thủy tinh mà không hại gì|Ég get etið gler|Mənim üçün şüşə
𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛 ℵ ∑ ∫ √|Ⅷ ⅷ ½ ¼ ² ³ ¹ ① ⑳ ㊿ 〇|ﬁne ﬂow ﬀ ﬆ ß ẞ ǅ ǆ Ǆ|№ ™ © ® § ¶ † ‡ • … ‰ € £ ¥ ₿ ₹
""".strip().replace("\n", "|").split("|")

CODE = """
def {a}({b}: int = {n}) -> None:|    return {a}[{b}:{n}] if {b} != {n} else None|for (int {a} = 0; {a} < {n}; ++{a}) {{|}}
#include <{a}/{b}.h>|template <typename {A}> struct {B} : {A} {{}};|std::vector<{A}> {a}{{{n}, {n}}};|let mut {a}: &'static str = "{b}";
fn {a}<'a>({b}: &'a [u8]) -> Option<{A}> {{|<div class="{a}" id='{b}'>{n}</div>|SELECT {a}, COUNT(*) FROM {b} WHERE x >= {n};
{{"{a}": [{n}, null, true], "{b}": "\\u00e9"}}|\\begin{{equation}} {a}_{{{b}}}^{n} \\end{{equation}}|$ {a} --{b}={n} | grep -v '{a}' > out/{b}.txt
https://{a}.example.org/{b}?q={n}&x=%20#{a}|{a}.{b}@example.com|C:\\Users\\{A}\\{b}_{n}.txt|x = {a}->{b}(); // {n}|/* {a} */ return;
\tif {a}:\n\t\t{b} += {n}\n\n\n|    \n  {a}\r\n\r\n{b}\r|0x{n:x} 1e-{n} {n}.{n}f {n}_000 -{n}%|{a}{B}{n}{A}{b}|__{a}__.{b}()[{n}]
""".strip().replace("\n", "|").split("|")

BLOCKS = [
    (0x21, 0x7E), (0xA1, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F),
    (0x591, 0x5F4), (0x600, 0x6FF), (0x700, 0x74F), (0x780, 0x7B1), (0x7C0, 0x7FA), (0x904, 0x97F), (0x980, 0x9FE),
    (0xA01, 0xA76), (0xA81, 0xAFF), (0xB01, 0xB77), (0xB82, 0xBFA), (0xC00, 0xC7F), (0xC80, 0xCF2), (0xD00, 0xD7F),
    (0xD81, 0xDF4), (0xE01, 0xE5B), (0xE81, 0xEDF), (0xF00, 0xFDA), (0x1000, 0x109F), (0x10A0, 0x10FF),
    (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FD), (0x1401, 0x14FF), (0x16A0, 0x16F8), (0x1780, 0x17F9),
    (0x1820, 0x18AA), (0x1E00, 0x1EFF), (0x1F00, 0x1FFE), (0x2010, 0x205E), (0x2070, 0x209C), (0x20A0, 0x20C0),
    (0x20D0, 0x20F0), (0x2100, 0x218B), (0x2190, 0x22FF), (0x2300, 0x23FF), (0x2460, 0x24FF), (0x2500, 0x25FF),
    (0x2600, 0x27BF), (0x2C00, 0x2C5F), (0x2C80, 0x2CFF), (0x2D30, 0x2D7F), (0x2E80, 0x2FD5), (0x3001, 0x303F),
    (0x3041, 0x309F), (0x30A0, 0x30FF), (0x3105, 0x312F), (0x3131, 0x318E), (0x3200, 0x32FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA000, 0xA48C), (0xA640, 0xA69F), (0xA720, 0xA7CA), (0xA960, 0xA97C), (0xAC00, 0xD7A3),
    (0xD7B0, 0xD7FB), (0xE000, 0xE0FF), (0xF900, 0xFAD9), (0xFB00, 0xFB4F), (0xFB50, 0xFDFF), (0xFE20, 0xFE6B),
    (0xFF01, 0xFFEE), (0x10000, 0x100FA), (0x10330, 0x1034A), (0x10400, 0x1044F), (0x10900, 0x1091F),
    (0x11000, 0x1104D), (0x12000, 0x12399), (0x13000, 0x1342E), (0x1D100, 0x1D1E8), (0x1D400, 0x1D7FF),
    (0x1E900, 0x1E95F), (0x1F000, 0x1F0F5), (0x1F300, 0x1F6FF), (0x1F900, 0x1F9FF), (0x20000, 0x2A6DF),
    (0x2F800, 0x2FA1D), (0xE0001, 0xE007F),
]

SPACES = [" ", "  ", "\t", "\n", "\r", "\r\n", "\n\n", "\v", "\f", "\u0085", "\u00a0", "\u1680", "\u180e", "\u2000",
          "\u2003", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff"]
MARKS = [chr(c) for c in range(0x300, 0x370)] + list("\u0591\u05b0\u05bc\u0651\u064e\u0653\u093c\u094d\u0e38\u0e48\u1dc0\u20d0\u3099\u309a\ufe20")
COMPOSING = list("aAeEoOuUnNcCsSiIyY") + list("\u1ea1\u01b0\u01a0\u00e4\u03b1\u03c9\u0418\u0928\u0915\u30ab\u30cf\u0958\u2126\u212b\u0344\u0340\u1e9b\u0f73\u0fb2\U00011131\U000114b9\U0001d15e\ufb1d\uf900")
FAMILIES = ["👨‍👩‍👧‍👦", "👩🏽‍🚀", "🏳️‍🌈", "🏴‍☠️", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🇩🇪", "🇺🇳🇪🇺", "1️⃣", "#️⃣", "❤️‍🔥", "👍🏿", "👋", "😀", "🤷🏻‍♂️", "☺", "☺️", "👁️‍🗨️", "🧑‍🤝‍🧑"]
APOSTROPHE = ["'s", "'S", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'vE", "'m", "'M", "'ll", "'LL", "'lL", "'d", "'D", "'\u017f",
              "'\u212a", "\u2019s", "'", "''", "'x", "'l", "'r", "'sS", "'st", "'\u00df", "'\ufb06"]
LOOKALIKES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_end|", "|im_end|>", "< |im_end|>", "<|IM_END|>",
              "<<|im_start|>>", "<|im_start|><|im_end|>", "<think>", "</think>", "<think", "<thinking>", "<｜User｜>",
              "<|User|>", "<｜begin▁of▁sentence｜>", "<|start|>assistant<|channel|>final<|message|>", "<|end|>",
              "<|start|", "<|return|>", "<s>", "</s>", "[INST]", "<0x0A>", "Ġ", "ĠHello", "Ċ", "▁x", "<｜end▁of▁sentence｜>"]


def assigned(code):
    return unicodedata.category(chr(code)) not in ("Cs", "Cn")


def is_young(text):
    """Whether a code point got its meaning after Unicode 14."""
    return any(unicodedata.category(c) == "Cn" and ord(c) & 0xFFFE != 0xFFFE and not 0xFDD0 <= ord(c) <= 0xFDEF for c in text)


def make_strings():
    rng = random.Random(20)
    strings = ["", " ", "a", "\n", "\x00", "é", "e\u0301", "\U0010ffff", "\ufffe", "\ufffd"] + PHRASES
    ascii_words = "the of and to in is you that it he was for on are as with his they at be this have from or one".split()
    words = ascii_words + [w for p in PHRASES for w in p.split()]

    def word():
        w = rng.choice(words)
        return rng.choice([w, w, w.upper(), w.capitalize()])

    strings += PHRASES
    for low, high in BLOCKS:
        pool = [chr(c) for c in range(low, high + 1) if assigned(c)]
        for _ in range(8):
            s = "".join(rng.choice(pool) for _ in range(rng.randrange(1, 9)))
            if rng.random() < 0.5:
                at = rng.randrange(len(s) + 1)
                s = s[:at] + rng.choice([" ", " ", "1", "23", ".", "\n", "'s", "-", "Ab"]) + s[at:]
            strings.append(s)
    for _ in range(160):
        strings.append("".join(rng.choice(FAMILIES + [" ", "ok", "\u200d", "\ufe0f", "🏽", "!"]) for _ in range(rng.randrange(1, 5))))
    for _ in range(260):
        strings.append("".join(rng.choice(COMPOSING) + "".join(rng.choice(MARKS) for _ in range(rng.choice([0, 1, 1, 2, 3])))
                               for _ in range(rng.randrange(1, 6))))
    for _ in range(40):
        strings.append("".join(chr(rng.choice([rng.randrange(0x1100, 0x1113), rng.randrange(0x1161, 0x1176),
                                               rng.randrange(0x11A7, 0x11C3), rng.randrange(0xAC00, 0xD7A4)]))
                               for _ in range(rng.randrange(1, 7))))
    for _ in range(330):
        strings.append("".join(rng.choice(SPACES + [" ", "\n", word(), "x", ".", "7"]) for _ in range(rng.randrange(1, 9))))
    for _ in range(110):
        strings.append("".join(rng.choice([chr(rng.randrange(0x20)), chr(rng.randrange(0x7F, 0xA0)), "a", " ", "\u200e", "\u202e", "\ufff9"])
                               for _ in range(rng.randrange(1, 7))))
    for _ in range(330):
        form = rng.choice(CODE)
        a, b = rng.choice(ascii_words), rng.choice(ascii_words)
        strings.append(form.format(a=a, b=b, A=a.capitalize(), B=b.upper(), n=rng.randrange(10 ** rng.randrange(1, 8))))
    for _ in range(210):
        numerals = rng.choice(["0123456789"] * 4 + ["٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "０１２３４５６７８９", "ⅠⅣⅨ½²③", "一二三四"])
        s = "".join(rng.choice(numerals) for _ in range(rng.randrange(1, 12)))
        strings.append(rng.choice(["", " ", "$", "-", "x"]) + s + rng.choice(["", ".5", ",000", "%", " km", "th", "年", "-7"]))
    for _ in range(240):
        strings.append(rng.choice(["", " ", '"']) + word() + rng.choice(APOSTROPHE) + rng.choice(["", " ", "x", "\n", ".", word(), "'s"]))
    for _ in range(300):
        strings.append("".join(rng.choice(LOOKALIKES + [" ", "\n", word()]) for _ in range(rng.randrange(1, 5))))
    by_category = {}
    for code in range(0x110000):
        if assigned(code):
            by_category.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
    for category in sorted(by_category):
        for _ in range(9):
            c = rng.choice(by_category[category])
            strings.append(rng.choice(["", " ", "a", "1", "\n", "."]) + c + rng.choice(["", " ", "a", "A", "1", "\n", ".", c]))
    everything = [c for pool in by_category.values() for c in rng.sample(pool, min(len(pool), 400))]
    for _ in range(260):
        strings.append("".join(rng.choice(everything) for _ in range(rng.randrange(2, 10))))
    for _ in range(12):
        strings.append("".join(rng.choice([word(), " ", " ", "\n", ", ", rng.choice(everything)]) for _ in range(150)))
    marks = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))]
    strings += ["".join(f"a\u0345{m}\u0334" for m in marks[i:i + 8]) for i in range(0, len(marks), 8)]
    forms = [chr(c) for c in range(0x110000) if unicodedata.decomposition(chr(c))]
    strings += ["".join(forms[i:i + 24]) for i in range(0, len(forms), 24)]
    strings += ["a" * 300, " " * 200 + "x", "aB" * 100, "1" * 100, "\n" * 60, "é" * 90, "ab" * 70 + "'s" * 20, "!?" * 60]
    strings = list(dict.fromkeys(strings))
    assert not any(is_young(s) for s in strings)

    young = []
    for low, high in [(0x0CF3, 0x0CF3), (0x0ECE, 0x0ECE), (0x1C89, 0x1C8A), (0xA7CB, 0xA7DC), (0x10D40, 0x10D65), (0x10EFD, 0x10EFF),
                      (0x11240, 0x11241), (0x11380, 0x113D5), (0x11F00, 0x11F59), (0x13430, 0x13455), (0x16D40, 0x16D79),
                      (0x1CC00, 0x1CCF9), (0x1DF25, 0x1DF2A), (0x1E4D0, 0x1E4F9), (0x1FA75, 0x1FAF8), (0x2EBF0, 0x2EE5D), (0x31350, 0x323AF)]:
        for code in sorted(rng.sample(range(low, high + 1), min(4, high - low + 1))):
            young.append(f"x {chr(code)}y {chr(code)}1{chr(code)}")
    return strings, [s for s in young if is_young(s)]


def pack(ids):
    return "".join(DIGITS[i >> 6] + DIGITS[i & 63] for i in ids)


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def byte_level(add_prefix_space=False, use_regex=False):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def added(content, **flags):
    token = {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    token.update(flags)
    return token


def template(*pieces):
    single = [{"Sequence": {"id": "A", "type_id": 0}} if p is None else {"SpecialToken": {"id": p, "type_id": 0}} for p, _ in pieces]
    return {"type": "TemplateProcessing", "single": single,
            "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {p: {"id": p, "ids": ids, "tokens": [p] * len(ids)} for p, ids in pieces if p is not None}}


def train(strings, size, pre_tokenizer, normalizer=None):
    """A tokenizer.json as a dictionary, its BPE trained on `strings` with the given components."""
    base = Tokenizer(models.BPE())
    spec = json.loads(base.to_str())
    spec["pre_tokenizer"], spec["normalizer"] = pre_tokenizer, normalizer
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(strings, trainer)
    spec = json.loads(tokenizer.to_str())
    spec["decoder"] = byte_level(True, True)
    return spec


def with_added(spec, tokens):
    first = len(spec["model"]["vocab"])
    spec["added_tokens"] = []
    for token in tokens:
        known = spec["model"]["vocab"].get(token["content"])
        if known is None:
            known, first = first, first + 1
        spec["added_tokens"].append({"id": known, **token})
    return spec


def with_string_merges(spec):
    spec["model"]["merges"] = [" ".join(pair) for pair in spec["model"]["merges"]]
    return spec


def apply_patch(spec, patch):
    """The "replace" and "remove" operations of JSON Patch; enough for the cases here."""
    spec = copy.deepcopy(spec)
    for step in patch:
        *path, last = step["path"].strip("/").split("/")
        target = spec
        for key in path:
            target = target[int(key) if isinstance(target, list) else key]
        if isinstance(target, list):
            last = int(last)
        if step["op"] == "remove":
            del target[last]
        else:
            target[last] = step["value"]
    return spec


def replace(path, value):
    return {"op": "replace", "path": path, "value": value}


class Golden:
    def __init__(self, name, spec, strings, young):
        self.name, self.spec, self.strings = name, spec, strings
        self.golden = {"cases": [], "young": [], "own": {"strings": [], "cases": []}, "decode": []}
        self.case("as is")
        hf = self.load([])
        self.golden["young"] = [pack(hf.encode(s, add_special_tokens=False).ids) for s in young]
        rng = random.Random(len(name))
        ids = sorted(hf.get_vocab(with_added_tokens=True).values())
        special = [t["id"] for t in spec["added_tokens"]]
        for _ in range(150):
            seq = [rng.choice(special) if special and rng.random() < 0.15 else rng.choice(ids) for _ in range(rng.randrange(1, 16))]
            self.golden["decode"].append([pack(seq), hf.decode(seq, skip_special_tokens=False), hf.decode(seq, skip_special_tokens=True)])

    def load(self, patch):
        return Tokenizer.from_str(json.dumps(apply_patch(self.spec, patch)))

    def case(self, name, patch=(), step=1, own=None, add_special_tokens=False, parse_special=True):
        patch = list(patch)
        hf = self.load(patch)
        hf.encode_special_tokens = not parse_special
        cases = self.golden["cases"] if own is None else self.golden["own"]["cases"]
        strings = self.strings if own is None else own
        first = len(cases) % step
        ids = [pack(hf.encode(s, add_special_tokens=add_special_tokens).ids) for s in strings[first::step]]
        cases.append({"name": name, "patch": patch, "add_special_tokens": add_special_tokens, "parse_special": parse_special,
                      "step": step, "first": first, "ids": ids})

    def own(self, strings):
        self.golden["own"]["strings"] = strings
        return strings

    def write(self):
        write(f"{self.name}.json", self.spec)
        write(f"{self.name}.golden.json", self.golden)


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (OUT / name).write_text(text.replace('"],"', '"],\n"').replace("},{", "},\n{") + "\n", encoding="utf-8")


def flag_tokens():
    """One token for each combination of flags, and some that overlap, hold white space or change when normalized."""
    tokens = []
    for bits in range(32):
        tokens.append(added(f"<a{bits}>", single_word=bool(bits & 1), lstrip=bool(bits & 2), rstrip=bool(bits & 4),
                            normalized=bool(bits & 8), special=bool(bits & 16)))
    tokens += [added("word", single_word=True, special=False), added("wor", special=False), added("<a", special=False),
               added("<a1><a2>", special=True), added("cafe\u0301", normalized=True, special=False),
               added("e\u0301e\u0301", normalized=False, special=True), added("\u00e9t\u00e9", normalized=True, special=True),
               added("\n\n", lstrip=True, special=False), added(" two words ", special=True), added("ĠĠĠ", special=False),
               added("the", lstrip=True, rstrip=True, single_word=True, special=False), added("<b>", rstrip=True), added("\t", lstrip=True)]
    return tokens


def flag_strings(tokens):
    rng = random.Random(7)
    contents = [t["content"] for t in tokens]
    glue = ["", "", " ", "  ", "\n", "\u3000", "\u0085", "x", "word", "words", "_", "9", "é", "e\u0301", "\u0301", ".", "<a", ">", " the ", "\u200d", "²", "\u200b"]
    strings = []
    for content in contents:
        strings += [content, f"x{content}y", f" {content} ", f"x  {content}\n y", f"{content}{content}", f"{content} {content}\u3000{content}"]
    for _ in range(500):
        strings.append("".join(rng.choice(contents) + rng.choice(glue) + rng.choice(glue) for _ in range(rng.randrange(1, 5))))
    return list(dict.fromkeys(strings))


def main():
    if tokenizers.__version__ != "0.23.3":
        sys.exit(f"tokenizers 0.23.3 is the reference, this is {tokenizers.__version__}")
    if unicodedata.unidata_version != "14.0.0":
        sys.exit(f"Unicode 14 tables are needed (Python 3.11), these are {unicodedata.unidata_version}")
    OUT.mkdir(parents=True, exist_ok=True)
    strings, young = make_strings()
    write("strings.json", {"strings": strings, "young": young})
    corpus = strings + PHRASES * 20
    chat = [added(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] + [added(t, special=False) for t in ("<think>", "</think>")]

    qwen = Golden("qwen", with_added(train(corpus, 900, sequence(split(QWEN), byte_level()), {"type": "NFC"}), chat), strings, young)
    forms = [("NFD", {"type": "NFD"}), ("NFKC", {"type": "NFKC"}), ("NFKD", {"type": "NFKD"}), ("none", None),
             ("Lowercase", {"type": "Lowercase"}),
             ("Sequence", {"type": "Sequence", "normalizers": [
                 {"type": "NFKC"}, {"type": "Replace", "pattern": {"String": "the"}, "content": "<think>"},
                 {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Prepend", "prepend": "▁é"}]})]
    for name, normalizer in forms:
        qwen.case(f"normalizer {name}", [replace("/normalizer", normalizer)], step=1 if name == "NFKD" else 9)
    qwen.case("prefix space", [replace("/pre_tokenizer/pretokenizers/1/add_prefix_space", True)], step=12)
    qwen.case("special tokens as text", step=6, parse_special=False)
    qwen.write()

    harmony = [added(f"<|{t}|>") for t in ("startoftext", "endoftext", "return", "constrain", "channel", "start", "end", "message", "call")]
    o200k_spec = with_string_merges(train(corpus, 900, sequence(split(O200K), byte_level())))
    o200k_spec["model"]["ignore_merges"] = True
    del o200k_spec["model"]["merges"][300::7]  # leaves tokens that only ignore_merges can reach
    kept, reachable = [], set(pre_tokenizers.ByteLevel.alphabet())
    for merge in o200k_spec["model"]["merges"]:
        left, right = merge.split(" ")
        if left in reachable and right in reachable:
            reachable.add(left + right)
            kept.append(merge)
    o200k_spec["model"]["merges"] = kept
    o200k = Golden("o200k", with_added(o200k_spec, harmony), strings, young)
    o200k.case("merges only", [replace("/model/ignore_merges", False)], step=4)
    o200k.write()

    bars = [added(t) for t in ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")]
    deepseek_spec = with_added(train(corpus, 900, sequence(split(r"\p{N}{1,3}"), split(CJK), split(DEEPSEEK), byte_level())), bars)
    first = len(deepseek_spec["model"]["vocab"])
    deepseek_spec["post_processor"] = template(("<｜begin▁of▁sentence｜>", [first]), (None, None))
    deepseek = Golden("deepseek", deepseek_spec, strings, young)
    deepseek.case("with special tokens", step=15, add_special_tokens=True)
    deepseek.case("around", [replace("/post_processor", {"type": "Sequence", "processors": [
        byte_level(), template(("<｜begin▁of▁sentence｜>", [first, first]), (None, None), ("<｜end▁of▁sentence｜>", [first + 1]))]})],
                  step=15, add_special_tokens=True)
    deepseek.write()

    gpt2_spec = with_added(train(corpus, 900, byte_level(True, True)), [added("<|endoftext|>")])
    gpt2_spec["post_processor"] = byte_level(True, True)
    gpt2 = Golden("gpt2", gpt2_spec, strings, young)
    gpt2.case("no prefix space", [replace("/pre_tokenizer/add_prefix_space", False)], step=6)
    gpt2.case("whole text", [replace("/pre_tokenizer/use_regex", False)], step=9)
    for individual in (True, False):
        gpt2.case(f"digits {individual}", [replace("/pre_tokenizer", sequence({"type": "Digits", "individual_digits": individual}, byte_level(True, True)))], step=9)
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            for pattern in ({"Regex": "[\\s.!?-]"}, {"String": " "}, {"Regex": "x*"}):
                step = {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
                gpt2.case(f"{behavior} {invert} {pattern}", [replace("/pre_tokenizer", sequence(step, byte_level(False, False)))], step=24)
    gpt2.write()

    cl100k = Golden("cl100k", with_added(train(corpus, 700, sequence(split(CL100K), byte_level()), {"type": "NFC"}), flag_tokens()), strings, young)
    cl100k.case("as is", own=cl100k.own(flag_strings(flag_tokens())))
    own = cl100k.golden["own"]["strings"]
    cl100k.case("special tokens as text", own=own, step=2, parse_special=False)
    cl100k.case("no normalizer", [replace("/normalizer", None)], own=own, step=2)
    cl100k.case("NFD", [replace("/normalizer", {"type": "NFD"})], own=own, step=2)
    cl100k.write()

    count = sum(len(c["ids"]) for g in (qwen, o200k, deepseek, gpt2, cl100k) for c in g.golden["cases"] + g.golden["own"]["cases"])
    print(f"{len(strings)} strings, {len(young)} young strings, {count} encodings, "
          f"{sum(f.stat().st_size for f in OUT.glob('*.json')) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
