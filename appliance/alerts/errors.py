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


class SilenceError(AlertError):
    """A silence without a reason, without an end, or with one too far away."""

    code = "alert_silence"


class NoSuchChannelError(AlertError):
    """The site file names no channel so."""

    code = "alert_channel_unknown"


class DeliveryError(AlertError):
    """A channel did not take a message; the message says why, in words for the console."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
