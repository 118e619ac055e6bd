"""The text of a row filter, parsed into conditions."""

import ast
import warnings

from dkde.errors import Argument, InputError
from dkde.rows.filter_conditions import Comparison, Condition, Joined, Membership, Missing, Truth
from dkde.rows.filter_values import Literal

# Longer or deeper text is no filter that a person wrote; a parser would need much memory for it.
_MOST_CHARACTERS, _MOST_LEVELS = 10_000, 50
_MOST_BITS = 1023
_ALLOWED = (
    "a filter compares columns with numbers, text, True or False (==, !=, <, <=, >, >=, in [...], "
    "not in [...], is None, is not None), joined by and, or, not and parentheses"
)
_OPERATORS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
# What people of other languages write, and what stands for it here.
_REMEDIES: dict[type[ast.AST], str] = {
    ast.BitAnd: "write and",
    ast.BitOr: "write or",
    ast.Invert: "write not",
    ast.Attribute: "write a name that holds a dot between backticks, as in `a.b`",
}


class Parser:
    """The parser of one text; positions in messages count characters from 1."""

    def __init__(self, text: str) -> None:
        if not text:
            raise InputError(Argument("where"), f" is empty; {_ALLOWED}")
        if len(text) > _MOST_CHARACTERS:
            raise InputError(
                Argument("where"),
                f" has {len(text)} characters, and at most {_MOST_CHARACTERS} are read; "
                "write a column that says which rows are meant, and compare that one",
            )
        self._text = text
        # Names between backticks become Python names of the same length, and are known by position.
        self._quoted: dict[int, str] = {}
        self._plain = self._without_backticks()

    def condition(self) -> Condition:
        """Return the meaning of the text."""
        try:
            with warnings.catch_warnings():  # of escapes that Python does not know
                warnings.simplefilter("ignore")
                tree = ast.parse(self._plain, mode="eval")
        except SyntaxError as error:
            at = min(max((error.offset or 1) - 1, 0), len(self._text))
            raise self._fault(at, len(self._text), *self._guess(at)) from None
        except (MemoryError, RecursionError, ValueError):  # nested too deeply, or with zero bytes
            raise self._fault(0, len(self._text), "the text cannot be parsed") from None
        return self._of(tree.body, True, 0)

    def _without_backticks(self) -> str:
        """Return the text with names between backticks replaced by names of the same length."""
        found, at, quote = [], 0, ""
        text = self._text.translate({10: " ", 13: " "})
        while at < len(text):
            character = text[at]
            if quote:
                if character == "\\":
                    found.append(text[at : at + 2])
                    at += 2
                    continue
                quote = "" if character == quote else quote
            elif character in "'\"":
                quote = character
            elif character == "#":
                raise self._fault(at, len(text), "a comment")
            elif character == "`":
                stop = text.find("`", at + 1)
                if stop <= at + 1:
                    raise self._fault(at, len(text), "a backtick without a name and its end")
                self._quoted[at] = text[at + 1 : stop]
                found.append("q" + "_" * (stop - at))
                at = stop + 1
                continue
            found.append(character)
            at += 1
        return "".join(found)

    def _guess(self, at: int) -> tuple[str, str]:
        """Return what is wrong with text that is no Python, and a remedy."""
        before, rest = self._plain[max(at - 1, 0) : at], self._plain[at:]
        if rest.startswith("=") and before not in ("=", "<", ">", "!"):
            return "a single =", "write =="
        if rest.startswith(":"):  # the option of one side, as it is written on the command line
            return "a colon", "the sides of which one can be given are train, query, valid and test"
        words = {word.strip("(),") for word in self._plain.split()}
        if words & {"AND", "OR", "NOT", "IN", "IS", "NULL", "&&", "||"}:
            return "it is not Python's spelling", "write and, or, not, in and is None"
        return "the text ends or goes on unexpectedly", ""

    def _of(self, node: ast.expr, holds: bool, level: int) -> Condition:
        """Return the meaning of a node, or of its negation where it is not to hold."""
        if level > _MOST_LEVELS:
            raise self._fault(0, len(self._text), f"it is nested more than {_MOST_LEVELS} deep")
        if isinstance(node, ast.BoolOp):
            parts = tuple(self._of(value, holds, level + 1) for value in node.values)
            return Joined(parts, isinstance(node.op, ast.And) == holds)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._of(node.operand, not holds, level + 1)
        if isinstance(node, ast.Name):
            return Truth(self._name(node), holds)
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            parts = tuple(
                self._compared(left, operator, right, holds, node)
                for left, operator, right in zip(operands, node.ops, operands[1:], strict=False)
            )
            return parts[0] if len(parts) == 1 else Joined(parts, holds)
        if isinstance(node, ast.Constant):
            raise self._refused(node, "a value that is compared with nothing")
        raise self._refused(node)

    def _compared(
        self, left: ast.expr, operator: ast.cmpop, right: ast.expr, holds: bool, whole: ast.expr
    ) -> Condition:
        """Return the meaning of one comparison of a chain."""
        if isinstance(operator, ast.Is | ast.IsNot):
            if not isinstance(right, ast.Constant) or right.value is not None:
                raise self._refused(whole, "is with anything but None", "write ==")
            return Missing(self._column(left), isinstance(operator, ast.Is) == holds)
        if isinstance(operator, ast.In | ast.NotIn):
            return self._member(left, right, isinstance(operator, ast.In) == holds)
        sign = _OPERATORS[type(operator)]
        sign = sign if holds else _OPPOSITE[sign]
        if isinstance(left, ast.Name) and isinstance(right, ast.Name):
            return Comparison(self._name(left), sign, other=self._name(right))
        if isinstance(left, ast.Name):
            return Comparison(self._name(left), sign, self._literal(right))
        value = self._literal(left)
        if not isinstance(right, ast.Name):
            self._literal(right)  # a node that is not allowed is the likelier mistake
            raise self._refused(whole, "a comparison without a column")
        return Comparison(self._name(right), _MIRRORED[sign], value)

    def _member(self, left: ast.expr, right: ast.expr, is_in: bool) -> Membership:
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            raise self._refused(right, "in without a list", "write [1, 2] or ['a', 'b']")
        values = tuple(self._literal(each) for each in right.elts)
        if len({isinstance(value, str) for value in values}) > 1:
            raise self._refused(right, "a list of text and numbers")
        return Membership(self._column(left), values, is_in)

    def _column(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Name):
            raise self._refused(node, None if not isinstance(node, ast.Constant) else "no column")
        return self._name(node)

    def _name(self, node: ast.Name) -> str:
        start, stop = self._range(node)
        # Not node.id: Python changes some letters of names, such as the micro sign.
        return self._quoted.get(start, self._plain[start:stop])

    def _literal(self, node: ast.expr) -> Literal:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self._literal(node.operand) if isinstance(node.operand, ast.Constant) else None
            if type(value) in (int, float):
                return -value if isinstance(node.op, ast.USub) else value  # type: ignore[operator, return-value]
        if isinstance(node, ast.Constant):
            if type(node.value) is int and node.value.bit_length() > _MOST_BITS:
                raise self._refused(node, "a number beyond those of float64")
            if type(node.value) in (bool, int, float, str):
                return node.value  # type: ignore[return-value]
            if node.value is None:
                raise self._refused(node, "a comparison with None", "write is None or is not None")
        raise self._refused(node)

    def _range(self, node: ast.expr) -> tuple[int, int]:
        """Return the characters of a node; ast counts bytes."""
        line = self._plain.encode()
        stop = node.col_offset if node.end_col_offset is None else node.end_col_offset
        return len(line[: node.col_offset].decode()), len(line[:stop].decode())

    def _refused(self, node: ast.expr, what: str | None = None, way: str = "") -> InputError:
        """Return the error for a node that is no part of a filter."""
        kinds = [type(node), type(getattr(node, "op", None))]
        way = way or next((_REMEDIES[kind] for kind in kinds if kind in _REMEDIES), "")
        return self._fault(*self._range(node), what or _called(node), way)

    def _fault(self, start: int, stop: int, what: str, way: str = "") -> InputError:
        shown = self._text[start : min(stop, start + 40)]
        piece = f", {shown!r}" if shown else ""
        return InputError(
            Argument("where"),
            f": {what}, at character {start + 1}{piece}; {f'{way}; ' if way else ''}{_ALLOWED}",
        )


def _called(node: ast.expr) -> str:
    """Return the word for a kind of node that is not allowed."""
    words: dict[type[ast.AST], str] = {
        ast.Call: "a call", ast.Attribute: "an attribute", ast.Subscript: "a subscript",
        ast.BinOp: "arithmetic", ast.UnaryOp: "arithmetic", ast.Lambda: "a function",
        ast.JoinedStr: "text with fields", ast.IfExp: "a choice",
    }  # fmt: skip
    return f"{words.get(type(node), 'something else')} is not allowed"
