"""Extension of griffe: shows the help text and the default of each option of a run as its documentation."""

import ast
from typing import Any

import griffe


class Options(griffe.Extension):
    """Documents attributes `name: type = option(default, text, ...)` of classes, without importing their module."""

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Sets the docstring and the value of each option."""
        del kwargs
        for attribute in cls.members.values():
            if not isinstance(attribute, griffe.Attribute) or attribute.docstring or not attribute.value:
                continue
            call = ast.parse(str(attribute.value), mode="eval").body
            if isinstance(call, ast.Call) and getattr(call.func, "id", None) == "option":
                default, text = call.args[:2]
                attribute.value = ast.unparse(default)
                attribute.docstring = griffe.Docstring(self._evaluate(text, cls.module), parent=attribute)

    def _evaluate(self, text: ast.expr, module: griffe.Module) -> str:
        """Returns the value of an expression of strings and of constants of the module."""
        names = {node.id for node in ast.walk(text) if isinstance(node, ast.Name)}
        constants = {name: ast.literal_eval(str(module[name].value)) for name in names}
        return eval(compile(ast.Expression(text), "option", "eval"), {"__builtins__": {}}, constants)
