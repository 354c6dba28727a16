"""The forms, and the errors beside their fields."""

from typing import Any

from wtforms import Form, HiddenField, PasswordField, RadioField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, ValidationError

from web import words
from web.accounts import names, users
from web.words import Sentence

LEAST, MOST = users.PASSWORD_LENGTH
WEAK = Sentence("This is one of the passwords that are guessed first. A few unrelated words make a good one.")


def _without_spaces(text: str | None) -> str | None:
    """Keyboards of phones add a space after a word."""
    return text.strip(" ") if text else text


def _is_username(_form: Form, field: Any) -> None:
    if problem := names.problem(field.data):
        raise ValidationError(problem)


def _is_display_name(_form: Form, field: Any) -> None:
    if problem := names.display_problem(field.data or ""):
        raise ValidationError(problem)


def _is_password(_form: Form, field: Any) -> None:
    if len(field.data) < LEAST:
        raise ValidationError(Sentence("A password has at least %(least)s characters.", least=LEAST))
    if len(field.data) > MOST:
        raise ValidationError(Sentence("A password has at most %(most)s characters.", most=MOST))


class Registration(Form):
    username = StringField(
        Sentence("Username"), [InputRequired(Sentence("Choose a username.")), _is_username], [_without_spaces]
    )
    password = PasswordField(Sentence("Password"), [InputRequired(Sentence("Choose a password.")), _is_password])
    invitation = HiddenField()


class Login(Form):
    username = StringField(Sentence("Username"), [InputRequired(Sentence("Type your username."))], [_without_spaces])
    password = PasswordField(Sentence("Password"), [InputRequired(Sentence("Type your password."))])
    next = HiddenField()


class Myself(Form):
    """How the others see a user, and the language of the site for them."""

    display_name = StringField(Sentence("Name"), [_is_display_name], [_without_spaces])
    hue = RadioField(
        Sentence("Colour"),
        choices=[
            SelectChoice("", Sentence("My username's own")),
            SelectChoice("0", Sentence("Copper")),
            SelectChoice("1", Sentence("Amber")),
            SelectChoice("2", Sentence("Olive")),
            SelectChoice("3", Sentence("Green")),
            SelectChoice("4", Sentence("Teal")),
            SelectChoice("5", Sentence("Blue")),
            SelectChoice("6", Sentence("Violet")),
            SelectChoice("7", Sentence("Pink")),
        ],
    )
    language = SelectField(
        Sentence("Language"),
        choices=[
            SelectChoice("", Sentence("My browser's")),
            *(SelectChoice(*each) for each in words.LANGUAGES.items()),
        ],
    )


class NewPassword(Form):
    current = PasswordField(Sentence("Current password"), [InputRequired(Sentence("Type your current password."))])
    password = PasswordField(
        Sentence("New password"), [InputRequired(Sentence("Choose a new password.")), _is_password]
    )


class PasswordAgain(Form):
    password = PasswordField(
        Sentence("Your password"), [InputRequired(Sentence("Type your password."))], id="password-again"
    )


class Deletion(PasswordAgain):
    username = StringField(Sentence("Your username"), filters=[_without_spaces])


class Code(Form):
    """The second step of a login."""

    code = StringField(Sentence("Code"), [InputRequired(Sentence("Type the code that your app shows."))])
    ticket = HiddenField()
    username = HiddenField()
    """For the first step, if it has to be done again."""
    next = HiddenField()


class FirstCode(Form):
    code = StringField(Sentence("Code"), [InputRequired(Sentence("Type the code that your app shows."))])
    offer = HiddenField()


class PasswordAndCode(Form):
    password = PasswordField(Sentence("Your password"), [InputRequired(Sentence("Type your password."))])
    code = StringField(
        Sentence("Code"), [InputRequired(Sentence("Type the code that your app shows, or a recovery code."))]
    )
