"""Why an act on an alert was refused."""


class AlertError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""

    code = "alert"


class NoSuchAlertError(AlertError):
    """No alert has this number."""

    code = "alert_unknown"


class ClosedError(AlertError):
    """The fault is over; there is nothing left to take on."""

    code = "alert_closed"


class TakenError(AlertError):
    """Somebody else already took it on; two people fixing one fault should meet first."""

    code = "alert_taken"
