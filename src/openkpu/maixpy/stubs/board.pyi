"""MaixPy v1: the pins of this board. More names come from /flash/config.json."""

from typing import Any

class board_info:
    BOOT_KEY: int
    def __getattr__(self, name: str) -> int: ...
    @staticmethod
    def set(key: str, value: Any = None) -> None: ...
    @staticmethod
    def load(names: dict[str, Any]) -> None: ...
