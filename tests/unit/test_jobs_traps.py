"""What was measured about Dramatiq, pika and periodiq, and that none of it can bite here."""

import dramatiq
import pytest
from dramatiq.encoder import JSONEncoder
from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage, Pipelines, Retries
from dramatiq.middleware.time_limit import TimeLimit
from periodiq import PeriodiqMiddleware

import domain.job_types
import jobs.actor
from domain.job_types import JobType, Service
from jobs import batch
from jobs.actor import Handler, actor
from jobs.loops import WorkerLoops
from jobs.process import JOB_TIME_LIMIT_MS, SHUTDOWN_TIMEOUT_MS, inprocess_broker, rabbitmq_broker
from jobs.rabbitmq import queue_arguments
from jobs.ticks import TICK_QUEUE, declare_tick

NOBODY = "amqp://127.0.0.1:1/"  # nothing here connects
JOB = JobType.PAYOUT_RECONCILE

#: RabbitMQ's default; a message that is not acked by then is delivered beside the running one.
CONSUMER_TIMEOUT_MS = 30 * 60_000


def rabbitmq() -> dramatiq.Broker:
    return rabbitmq_broker(NOBODY, queue_prefix="p_", threads=4, loops=[])


def inprocess() -> dramatiq.Broker:
    return inprocess_broker(threads=4, loops=[])


BOTH = pytest.mark.parametrize("make", [rabbitmq, inprocess])


@pytest.fixture(autouse=True)
def _one_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.actor, "_handlers", {JOB: Handler(JOB, lambda slot_id: None)})


@BOTH
def test_no_hook_does_a_jobs_work(make) -> None:  # type: ignore[no-untyped-def]
    """Errors in hooks are swallowed: retries, next steps and failures are rows instead."""
    middleware = make().middleware
    kinds = [type(each) for each in middleware]
    assert not {Retries, Pipelines, Callbacks, AgeLimit} & set(kinds)
    ours = [kind for kind in kinds if kind.__module__.startswith("jobs.")]
    for kind in ours:
        assert not {"before_process_message", "after_process_message", "before_ack"} & set(
            vars(kind)
        )


@BOTH
def test_the_order_of_middleware(make) -> None:  # type: ignore[no-untyped-def]
    """Before-hooks run in this order, after-hooks in the reverse one."""
    kinds = [type(each) for each in make().middleware]
    assert kinds == [CurrentMessage, TimeLimit, PeriodiqMiddleware, WorkerLoops]


def test_a_job_ends_long_before_rabbitmq_gives_it_to_a_second_thread() -> None:
    assert JOB_TIME_LIMIT_MS <= 5 * 60_000
    assert JOB_TIME_LIMIT_MS + SHUTDOWN_TIMEOUT_MS < CONSUMER_TIMEOUT_MS / 5
    [limit] = [each for each in rabbitmq().middleware if isinstance(each, TimeLimit)]
    assert limit.time_limit == JOB_TIME_LIMIT_MS


@BOTH
def test_nothing_waits_in_a_delayed_queue(make) -> None:  # type: ignore[no-untyped-def]
    broker = make()
    assert broker.get_declared_delay_queues() == set()
    assert not [name for name in broker.get_declared_queues() if name.endswith(".DQ")]
    declare_tick(broker, "tick", lambda: None)
    message = broker.actors["tick"].message()
    with pytest.raises(RuntimeError, match="run_at"):
        broker.enqueue(message, delay=1_000)


@BOTH
def test_names_on_the_wire_are_those_of_the_types(make) -> None:  # type: ignore[no-untyped-def]
    """The default, a bare function name, collides between modules."""
    assert set(make().actors) == {JOB.value, "inbox"}
    assert len({job_type.value for job_type in JobType}) == len(JobType.__members__)


def test_actors_are_not_async() -> None:
    async def run(slot_id: str) -> None:
        pass

    with pytest.raises(TypeError, match="must not be async"):
        actor(JobType.JOBS_PRUNE)(run)  # type: ignore[arg-type] # what is refused


def test_a_queue_belongs_to_one_service(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    spec = replace(JOB.spec, service=Service.NOTIFICATIONS)
    monkeypatch.setitem(domain.job_types._SPECS, JOB, spec)
    with pytest.raises(ValueError, match="share the queue 'maturity'"):
        inprocess()


def test_messages_are_json_and_never_pickles() -> None:
    assert isinstance(dramatiq.get_encoder(), JSONEncoder)


def test_workers_and_relays_declare_a_queue_alike() -> None:
    broker = rabbitmq()
    for name in broker.get_declared_queues():
        assert broker._build_queue_arguments(name) == queue_arguments(name)  # type: ignore[attr-defined]
        assert "x-message-ttl" not in queue_arguments(name)


def test_each_queue_has_a_prefetch_of_its_own() -> None:
    prefetch = rabbitmq().prefetch  # type: ignore[attr-defined]
    assert prefetch("p_maturity") == 3  # less than the threads
    assert prefetch("p_inbox") == 3
    assert prefetch("p_notifications") == batch.PREFETCH


def test_a_tick_is_every_minute_so_no_spec_of_periodiq_can_be_misread() -> None:
    broker = rabbitmq()
    declare_tick(broker, "tick", lambda: None, "p_")
    tick = broker.actors["tick"]
    assert str(tick.options["periodic"]) == "* * * * *"
    assert tick.queue_name == "p_" + TICK_QUEUE
    [skipping] = [each for each in broker.middleware if isinstance(each, PeriodiqMiddleware)]
    assert skipping.skip_delay == 30  # late ticks are dropped: the next one makes good


def test_the_broker_waits_neither_for_ever_nor_in_silence() -> None:
    [parameters] = rabbitmq().parameters  # type: ignore[attr-defined]
    assert parameters.blocked_connection_timeout
    assert parameters.heartbeat
    assert rabbitmq().confirm_delivery  # type: ignore[attr-defined]
