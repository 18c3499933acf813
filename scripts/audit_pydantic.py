"""Look for what Pydantic 2 gave up; print the status and how many there are.

usage: audit_pydantic.py [FOLDER]    (src by default)
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Names of Pydantic 1, and what replaces them:
# https://docs.pydantic.dev/latest/migration/
METHODS = {
    "construct": "model_construct",
    "from_orm": "model_validate with from_attributes",
    "parse_file": "model_validate_json",
    "parse_obj": "model_validate",
    "parse_raw": "model_validate_json",
    "schema_json": "model_json_schema",
    "update_forward_refs": "model_rebuild",
    "validate_arguments": "validate_call",
}
ATTRIBUTES = {
    "__fields__": "model_fields",
    "__fields_set__": "model_fields_set",
    "__root__": "RootModel",
}
IMPORTS = {
    "BaseSettings": "pydantic_settings.BaseSettings",
    "parse_obj_as": "TypeAdapter",
    "root_validator": "model_validator",
    "validate_arguments": "validate_call",
    "validator": "field_validator",
}
CONFIG_KEYS = {
    "allow_mutation": "frozen",
    "allow_population_by_field_name": "populate_by_name",
    "anystr_strip_whitespace": "str_strip_whitespace",
    "orm_mode": "from_attributes",
    "schema_extra": "json_schema_extra",
}


def violations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give line and advice of everything found in one file."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                yield from _imported(node.lineno, module, [each.name for each in names])
            case ast.Attribute(attr=name) if name in METHODS | ATTRIBUTES:
                yield node.lineno, f"{name}: use {(METHODS | ATTRIBUTES)[name]}"
            case ast.keyword(arg=str(name)) if name in CONFIG_KEYS:
                yield node.lineno, f"{name}: use {CONFIG_KEYS[name]}"
            case ast.ClassDef(name="Config"):
                yield node.lineno, "class Config: use model_config"
            case _:
                pass


def _imported(line: int, module: str, names: list[str]) -> Iterator[tuple[int, str]]:
    if module.startswith("pydantic.v1"):
        yield line, "pydantic.v1: use pydantic"
    if module == "pydantic":
        for name in names:
            if name in IMPORTS:
                yield line, f"{name}: use {IMPORTS[name]}"


def main() -> int:
    """Audit a folder."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "src"
    count = 0
    for path in sorted(folder.rglob("*.py")):
        for line, advice in violations(ast.parse(path.read_text(encoding="utf-8"))):
            print(f"{path}:{line}: {advice}")
            count += 1
    print(f"Status: {'FAIL' if count else 'PASS'}, Violations: {count}")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
