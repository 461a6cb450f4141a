import pytest
from image_host import Board


@pytest.fixture
def host() -> Board:
    return Board()
