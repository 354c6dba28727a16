"""The forms, and the errors beside their fields."""

from typing import Any

from wtforms import Form, HiddenField, PasswordField, StringField
from wtforms.validators import InputRequired, ValidationError

from web.accounts import names, users

LEAST, MOST = users.PASSWORD_LENGTH
WEAK = "This is one of the passwords that are guessed first. A few unrelated words make a good one."


def _without_spaces(text: str | None) -> str | None:
    """Keyboards of phones add a space after a word."""
    return text.strip(" ") if text else text


def _is_username(_form: Form, field: Any) -> None:
    if problem := names.problem(field.data):
        raise ValidationError(problem)


def _is_password(_form: Form, field: Any) -> None:
    if len(field.data) < LEAST:
        raise ValidationError(f"A password has at least {LEAST} characters.")
    if len(field.data) > MOST:
        raise ValidationError(f"A password has at most {MOST} characters.")


class Registration(Form):
    username = StringField("Username", [InputRequired("Choose a username."), _is_username], [_without_spaces])
    password = PasswordField("Password", [InputRequired("Choose a password."), _is_password])
    invitation = HiddenField()


class Login(Form):
    username = StringField("Username", [InputRequired("Type your username.")], [_without_spaces])
    password = PasswordField("Password", [InputRequired("Type your password.")])
    next = HiddenField()


class NewPassword(Form):
    current = PasswordField("Current password", [InputRequired("Type your current password.")])
    password = PasswordField("New password", [InputRequired("Choose a new password."), _is_password])


class PasswordAgain(Form):
    password = PasswordField("Your password", [InputRequired("Type your password.")], id="password-again")


class Deletion(PasswordAgain):
    username = StringField("Your username", filters=[_without_spaces])


class Code(Form):
    """The second step of a login."""

    code = StringField("Code", [InputRequired("Type the code that your app shows.")])
    ticket = HiddenField()
    username = HiddenField()
    """For the first step, if it has to be done again."""
    next = HiddenField()


class FirstCode(Form):
    code = StringField("Code", [InputRequired("Type the code that your app shows.")])
    offer = HiddenField()


class PasswordAndCode(Form):
    password = PasswordField("Your password", [InputRequired("Type your password.")])
    code = StringField("Code", [InputRequired("Type the code that your app shows, or a recovery code.")])
