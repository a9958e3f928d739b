"""What AWX accepts as a survey, and what it sends for an answer."""

from __future__ import annotations

from typing import Any

Question = dict[str, Any]

TEXTS = ("text", "textarea", "password")
CHOICES = ("multiplechoice", "multiselect")
DEFAULTS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys((*TEXTS, *CHOICES), str),
    "integer": int,
    "float": (float, int),
}
REQUIRED = {"question_name": str, "variable": str, "type": str, "required": bool}
ALLOWED = {*REQUIRED, "question_description", "choices", "default", "min", "max"}


def survey_errors(survey: dict[str, Any]) -> list[str]:
    """Everything that AWX would refuse, and keys that it does not know."""
    errors = []
    for key, kind in (("name", str), ("description", str), ("spec", list)):
        if not isinstance(survey.get(key), kind):
            errors.append(f"Field '{key}' is missing from survey spec.")
    if errors:
        return errors
    variables = [question.get("variable") for question in survey["spec"]]
    if not variables:
        errors.append("'spec' doesn't contain any items.")
    if len(set(variables)) < len(variables):
        errors.append("a variable is asked for twice")
    return errors + [error for question in survey["spec"] for error in question_errors(question)]


def question_errors(question: Question) -> list[str]:
    """Everything wrong with one question."""
    name = question.get("variable")
    errors = [
        f"{name}: {key} is missing"
        for key, kind in REQUIRED.items()
        if not isinstance(question.get(key), kind)
    ]
    errors += [f"{name}: unknown key {key}" for key in sorted(question.keys() - ALLOWED)]
    if errors:
        return errors
    form, default = question["type"], question.get("default")
    if form not in DEFAULTS:
        return [f"{name}: {form} is no type of question"]
    if default is not None and (not isinstance(default, DEFAULTS[form]) or isinstance(default, bool)):
        errors.append(f"{name}: the default {default!r} is no {form}")
    errors += [
        f"{name}: {key} is no integer"
        for key in ("min", "max")
        if key in question and type(question[key]) is not int
    ]
    if form in CHOICES:
        choices = question.get("choices")
        if (
            not isinstance(choices, list)
            or not choices
            or not all(isinstance(choice, str) for choice in choices)
        ):
            errors.append(f"{name}: choices must be texts")
        elif default is not None and not set(str(default).splitlines()) <= set(choices):
            errors.append(f"{name}: the default is not among the choices")
    elif "choices" in question:
        errors.append(f"{name}: only a multiple choice has choices")
    return errors


def answers_to(question: Question) -> list[Any]:
    """What AWX may send: the default, every choice, or something of the type."""
    form = question["type"]
    answers = [question["default"]] if "default" in question else []
    if form == "multiplechoice":
        return [*answers, *question["choices"]]
    if form == "multiselect":
        return [[], question["choices"]]
    return answers or [{"integer": 7, "float": 0.5}.get(form, "cluster1")]
