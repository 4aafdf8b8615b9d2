import pytest

from tests.chaos.sweeping import Command


@pytest.fixture
def sweep():
    """Make commands, and kill what is left of them in the end."""
    made = []

    def make(*arguments, **options):
        made.append(Command(*arguments, **options))
        return made[-1]

    yield make
    for command in made:
        command.cut_power()
