"""`overnight migrate`, `overnight worker` and `overnight relay`: the schema and the processes."""

import typer

from cli import compose
from cli.output import AsJson, print_json, remark
from domain.errors import InvalidInput
from models.migrate import migrate as apply_migrations


def add_to(app: typer.Typer) -> None:
    """Mount the commands on the root."""
    app.command()(migrate)
    app.command(epilog="Configured by the environment: docs/cli.md.")(worker)
    app.command()(relay)


def migrate(as_json: AsJson = False) -> None:
    """Create the database if it is missing, and bring it to the newest schema."""
    with compose.server() as settings:
        assert settings.database_url is not None
        applied = apply_migrations(settings.database_url.get_secret_value())
        place = compose.place_of(settings)
    if as_json:
        print_json({"database": place, "applied": applied})
    elif applied:
        typer.echo(f"{place}: applied {', '.join(applied)}")
    else:
        typer.echo(f"{place}: up to date")


def worker() -> None:
    """Run jobs until SIGTERM or Ctrl-C, then finish those in hand.

    With AMQP_URL set, any number of workers share the jobs through RabbitMQ. Without it this one
    process does them all.
    """
    with compose.process() as settings:
        from actors.wiring import build_broker
        from jobs.process import run_worker

        run_worker(build_broker(settings), on_ready=lambda: remark("worker ready; Ctrl-C ends it"))


def relay() -> None:
    """Publish due jobs to RabbitMQ until SIGTERM or Ctrl-C; workers do so too."""
    with compose.database() as settings:
        if settings.amqp_url is None:
            raise InvalidInput("AMQP_URL is not set: without RabbitMQ the worker needs no relay")
        from jobs.process import run_relay

        url = settings.amqp_url.get_secret_value()
        run_relay(url, queue_prefix=settings.queue_prefix, window=settings.relay_window)
