"""How commands end: an error becomes one clear line on stderr and an exit code, no traceback.

0 done, 1 failed, 2 usage or bad input, 3 finished with holds, failures or partial results.
"""

from contextlib import ExitStack
from typing import Any

import psycopg2
import typer
from typer.core import TyperGroup

from cli.output import FAILED, USAGE, remark
from domain.errors import InvalidInput, OvernightError
from models.database import CONNECTION_ERRORS
from servers.errors import ServerError

#: Closed when the command ends: for what a command opens and can't close itself.
until_the_end = ExitStack()


class ErrorGroup(TyperGroup):
    """The root of the commands: nothing that can be foreseen leaves it as a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with until_the_end:
                return super().invoke(ctx)
        except InvalidInput as error:
            raise _ended(str(error), USAGE) from None
        except OvernightError as error:
            raise _ended(str(error), FAILED) from None
        except ServerError as error:
            raise _ended(str(error), FAILED) from None
        except (psycopg2.OperationalError, psycopg2.InterfaceError, *CONNECTION_ERRORS) as error:
            raise _ended(_database(error), FAILED) from None
        except KeyboardInterrupt:
            raise _ended("interrupted", 130) from None


def _database(error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    hint = "; `overnight migrate` creates it" if "does not exist" in reason else ""
    return f"the database: {reason}{hint}"


def _ended(message: str, code: int) -> typer.Exit:
    remark(f"error: {message}")
    return typer.Exit(code)
