"""Takes mail with aiosmtpd and prints what Python's mail parser reads of it.

mail.py [--starttls CERT KEY | --tls CERT KEY] [--login NAME PASSWORD]

Prints its port, then one JSON a mail. Ends with its standard input.
"""

import argparse
import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import AuthResult, SMTP

options = argparse.ArgumentParser()
options.add_argument("--starttls", nargs=2)
options.add_argument("--tls", nargs=2)
options.add_argument("--login", nargs=2)
options = options.parse_args()


class Printer:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        part = lambda kind: mail.get_body((kind,)).get_content().replace("\r\n", "\n")
        print(json.dumps({
            "encrypted": session.ssl is not None,
            "authenticated": session.authenticated,
            "mail_from": envelope.mail_from,
            "rcpt_tos": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "defects": [str(defect) for part in mail.walk() for defect in part.defects],
            "content_type": mail.get_content_type(),
            "parts": [part.get_content_type() for part in mail.iter_parts()],
            "plain": part("plain"),
            "html": part("html"),
        }), flush=True)
        return "250 2.0.0 taken"


def context(files):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*files)
    return made


def authenticate(server, session, envelope, mechanism, data):
    right = [data.login.decode(), data.password.decode()] == options.login
    return AuthResult(success=right, handled=False)


def smtp():
    return SMTP(
        Printer(),
        hostname="mail.example",
        tls_context=context(options.starttls) if options.starttls else None,
        require_starttls=bool(options.starttls),
        authenticator=authenticate if options.login else None,
        auth_required=bool(options.login),
        # With TLS from the first byte on it does not know that there is TLS.
        auth_require_tls=bool(options.starttls),
    )


async def main():
    server = await asyncio.get_running_loop().create_server(
        smtp, "127.0.0.1", 0, ssl=context(options.tls) if options.tls else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
