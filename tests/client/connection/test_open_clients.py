"""Drops clients and sessions without closing them, and closes clients while threads use them."""

import gc
import threading

from tests.helpers.arrays import Floats

from statewise.client import Client, StatewiseError, Unavailable


def test_a_client_that_is_dropped_leaves_no_threads(address: str, x: Floats) -> None:
    before = set(threading.enumerate())
    client = Client(address)
    session = client.session("steps")
    session.step(x[0])
    del client
    session.step(x[1])  # a session keeps its client
    assert set(threading.enumerate()) - before
    del session
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def test_anonymous_sessions_that_were_dropped_are_closed_with_the_client(address: str, x: Floats) -> None:
    with Client(address) as observer:
        before = {each.id for each in observer.list_sessions()}
        client = Client(address)
        for _ in range(3):
            client.session("steps").step(x[0])
        client.sessions("steps", count=4).step(x[:4])
        kept = client.session("steps", keep=True)
        closed = client.session("steps")
        closed.close()
        gc.collect()
        assert len({each.id for each in observer.list_sessions()} - before) == 8
        client.close()
        assert {each.id for each in observer.list_sessions()} - before == {kept.id}
        observer.resume(kept.id).close()


def test_threads_that_step_while_the_client_is_closed_are_told_so(address: str, x: Floats) -> None:
    client = Client(address)
    sessions = [client.session("steps") for _ in range(4)]
    errors: list[StatewiseError] = []
    begun = threading.Barrier(5)

    def step_on(index: int) -> None:
        begun.wait()
        try:
            while True:
                sessions[index].step(x[0])
        except StatewiseError as error:
            errors.append(error)

    threads = [threading.Thread(target=step_on, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    client.close()
    for thread in threads:
        thread.join(30)
    assert [type(error) for error in errors] == [Unavailable] * 4
    assert {str(error) for error in errors} == {"the client is closed; make a new one"}
