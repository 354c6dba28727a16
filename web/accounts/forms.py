"""The forms, and the errors beside their fields."""

from typing import Any

from wtforms import Form, HiddenField, PasswordField, StringField
from wtforms.validators import InputRequired, ValidationError

from web.accounts import users

LEAST, MOST = users.PASSWORD_LENGTH


def _is_username(_form: Form, field: Any) -> None:
    if not 3 <= len(field.data) <= 32:
        raise ValidationError("A username has 3 to 32 characters.")
    if not users.USERNAME.fullmatch(field.data):
        raise ValidationError("A username is made of the letters a to z, digits, and _ . -")


def _is_password(_form: Form, field: Any) -> None:
    if len(field.data) < LEAST:
        raise ValidationError(f"A password has at least {LEAST} characters.")
    if len(field.data) > MOST:
        raise ValidationError(f"A password has at most {MOST} characters.")
    if users.is_common(field.data):
        raise ValidationError("This is one of the passwords that are guessed first. Choose another one.")


class Registration(Form):
    username = StringField("Username", [InputRequired("Choose a username."), _is_username])
    password = PasswordField("Password", [InputRequired("Choose a password."), _is_password])


class Login(Form):
    username = StringField("Username", [InputRequired("Type your username.")])
    password = PasswordField("Password", [InputRequired("Type your password.")])
    next = HiddenField()


class NewPassword(Form):
    current = PasswordField("Current password", [InputRequired("Type your current password.")])
    password = PasswordField("New password", [InputRequired("Choose a new password."), _is_password])


class PasswordAgain(Form):
    password = PasswordField("Your password", [InputRequired("Type your password.")], id="password-again")
