"""E-mail through the installation's SMTP server (RFC 5321), one recipient a message.

`smtps://` is TLS from the first byte, `smtp://` asks for STARTTLS and sends nothing without it, unless the address ends
in `?tls=none`. The `Message-ID` is the delivery's: what arrives twice can be told.
"""

import asyncio
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final
from urllib.parse import unquote, urlsplit

from tenantry.capabilities.notifications.errors import NotSentError
from tenantry.capabilities.notifications.types import Address, Message
from tenantry.foundation.clock import Clock

_SECONDS: Final = 10.0
_AT_ONCE: Final = 4
_PORTS: Final = {"smtp": 587, "smtps": 465}
_PERMANENT: Final = 500


@dataclass(frozen=True, slots=True, repr=False)
class SmtpServer:
    """Where the installation hands over its e-mail, and as whom it writes."""

    url: str
    sender: str


class EmailSender:
    """The `Sender` port for e-mail."""

    def __init__(self, server: SmtpServer, *, clock: Clock, tls: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._clock = clock
        self._tls = tls
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="smtp")

    async def send(self, address: Address, message: Message) -> None:
        mail = self._mail(address.text, message)
        await asyncio.get_running_loop().run_in_executor(self._threads, self._hand_over, mail, address.text)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _mail(self, recipient: str, message: Message) -> EmailMessage:
        """Write the message; `EmailMessage` refuses a header with a line break, whatever it comes from."""
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._server.sender, recipient, message.title
        mail["Date"] = format_datetime(self._clock.now())
        mail["Message-ID"] = f"<{message.delivery}@{self._domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Tenantry-Delivery"], mail["X-Tenantry-Topic"] = message.delivery, message.topic
        mail.set_content(message.body)
        return mail

    @property
    def _domain(self) -> str:
        return self._server.sender.rpartition("@")[2]

    def _hand_over(self, mail: EmailMessage, recipient: str) -> None:
        """Talk to the server; its words stay out of what is raised, they may repeat ours."""
        try:
            session = self._open()
            try:
                session.send_message(mail, from_addr=self._server.sender, to_addrs=[recipient])
            finally:
                with suppress(smtplib.SMTPException, OSError):
                    session.quit()
        except smtplib.SMTPRecipientsRefused as error:
            [(code, _)] = error.recipients.values()
            raise NotSentError(f"smtp_{code}", lasting=code >= _PERMANENT) from None
        except smtplib.SMTPAuthenticationError:
            raise NotSentError("smtp_not_admitted") from None  # the operator's to mend: it is tried again
        except smtplib.SMTPResponseException as error:
            raise NotSentError(f"smtp_{error.smtp_code}") from None
        except ssl.SSLError:
            raise NotSentError("tls_failed") from None
        except smtplib.SMTPNotSupportedError:
            raise NotSentError("tls_not_offered") from None
        except TimeoutError:
            raise NotSentError("timed_out") from None
        except (smtplib.SMTPException, OSError):
            raise NotSentError("connection_failed") from None

    def _open(self) -> smtplib.SMTP:
        parts = urlsplit(self._server.url)
        host, port = parts.hostname or "localhost", parts.port or _PORTS[parts.scheme]
        tls = self._tls or ssl.create_default_context()
        session: smtplib.SMTP
        if parts.scheme == "smtps":
            session = smtplib.SMTP_SSL(host, port, local_hostname=self._domain, timeout=_SECONDS, context=tls)
        else:
            session = smtplib.SMTP(host, port, local_hostname=self._domain, timeout=_SECONDS)
        try:
            if parts.scheme == "smtp" and parts.query != "tls=none":
                session.starttls(context=tls)
            if parts.username:
                session.login(unquote(parts.username), unquote(parts.password or ""))
        except BaseException:
            session.close()
            raise
        return session
