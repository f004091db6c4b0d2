"""Plans work on whole sequences, which needs no session: predictions, bulk runs, generations."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from statewise.client.bulk import Outcome, ScoreBatch, Scoring, score_plan
from statewise.client.core._catalogue import Catalogue
from statewise.client.requests import (
    Answers,
    ClientOptions,
    GenerateFrom,
    GenerateOptions,
    GenerateRetries,
    OutputCursor,
    Plan,
    Query,
    call,
    generate_request,
    gives_text,
)
from statewise.client.retries import CALL_RULES
from statewise.client.values import (
    MOST_WHOLE,
    InternalError,
    InvalidInput,
    ModelInfo,
    NotImplementedByServer,
    RequestLimits,
    Subject,
    Value,
    check_flag,
    check_whole,
)

GeneratePlan = Plan[GenerateRetries]
"""Gives the tries of one generated sequence."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """Plans that start from a model's initial state and keep nothing."""

    options: ClientOptions
    catalogue: Catalogue

    def predict(
        self,
        name: str,
        value: object,
        *,
        state: object,
        version: int | None,
        labels: bool,
        timeout_s: float | None,
    ) -> Plan[Value]:
        """Runs sequences; returns their outputs, or with `labels` the names of their best classes."""
        check_flag("labels", labels)
        left_s = self.options.countdown(timeout_s)
        query = yield from self._query(name, value, state, version, left_s)
        model = query.model
        limits = yield from self.catalogue.limits(left_s())
        answers: Answers | None = None
        subject = Subject("", name, version)
        for first_row, request in query.requests(
            RequestLimits.for_predict(limits, model),
            version=version or 0,
            timeout_s=timeout_s,
            labels=labels,
        ):
            for response in (yield from call(self.options, "Predict", request, left_s(), subject)):
                if answers is None:
                    if response.version and response.version != model.version:
                        model = yield from self._model(name, response.version, left_s())
                    answers = Answers(query, model)
                try:
                    answers.add(first_row, response)
                except (ValueError, IndexError) as error:
                    raise InternalError(f"a reply that makes no sense: {error}") from error
        if answers is None:
            raise InternalError("the server answered nothing")
        return answers.value(labels=labels)

    def scoring(
        self, name: str, *, start: int, version: int | None, labels: bool, timeout_s: float | None
    ) -> Plan[tuple[Scoring, Callable[[ScoreBatch], Plan[list[Outcome]]]]]:
        """Makes a bulk run of one fixed version, and the plan of one of its requests."""
        check_flag("labels", labels)
        check_whole("start", start, 0, MOST_WHOLE)
        left_s = self.options.countdown(timeout_s)
        model = yield from self._model(name, version, left_s(), fresh=True)
        if labels and not model.labels:
            raise InvalidInput(f"model {name!r} has no labels: expected labels=False")
        limits = yield from self.catalogue.limits(left_s())
        request_limits = RequestLimits.for_predict(limits, model)
        if limits.queue_steps:
            # A request larger than the whole queue would be refused for ever.
            request_limits = replace(request_limits, steps=min(request_limits.steps, limits.queue_steps))
        scoring = Scoring(model, request_limits, clock=self.options.clock, start=start)
        answer = partial(
            score_plan,
            request_limits=request_limits,
            options=self.options,
            labels=labels,
            timeout_s=timeout_s,
        )
        return scoring, answer

    def generating(
        self,
        name: str,
        generate_options: GenerateOptions,
        begin: GenerateFrom,
        *,
        text: bool | None,
        version: int | None,
        timeout_s: float | None,
    ) -> GeneratePlan:
        """Returns the tries of one generated sequence; the timeout begins now."""
        policy = self.options.retry_policy(CALL_RULES, timeout_s)
        model = yield from self.catalogue.current_model(name, version, timeout_s)
        cursor = OutputCursor(model, text=gives_text(model, begin.prompt, text), keep=True)
        request = generate_request(model, generate_options, begin, timeout_s=timeout_s)
        return GenerateRetries(request, cursor, policy)

    def _query(
        self,
        name: str,
        value: object,
        state: object,
        version: int | None,
        left_s: Callable[[], float | None],
    ) -> Plan[Query]:
        model = yield from self._model(name, version, left_s())
        try:
            return Query.of(model, value).begun_in(state)
        except (InvalidInput, NotImplementedByServer):
            # The default version may be another one by now, or the server a newer one.
            renewed = yield from self._model(name, version, left_s(), fresh=True)
            if renewed == model:
                raise
            return Query.of(renewed, value).begun_in(state)

    def _model(
        self, name: str, version: int | None, timeout_s: float | None, *, fresh: bool = False
    ) -> Plan[ModelInfo]:
        """Returns a version as predictions take it."""
        return (yield from self.catalogue.model(name, version, timeout_s, fresh=fresh)).predicted
