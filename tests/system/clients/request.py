"""A NATS request without credentials, with nothing but the standard library: URL SUBJECT PAYLOAD."""

import socket
import sys

url, subject, payload = sys.argv[1:]
host, port = url.removeprefix("nats://").split(":")
connection = socket.create_connection((host, int(port)), timeout=10)
lines = connection.makefile("rb")
lines.readline()  # INFO
body = payload.encode()
connection.sendall(
    b'CONNECT {"verbose":false,"pedantic":false,"lang":"python","version":"1"}\r\n'
    b"SUB _INBOX.python 1\r\n"
    + f"PUB {subject} _INBOX.python {len(body)}\r\n".encode()
    + body
    + b"\r\n"
)
while line := lines.readline():
    words = line.split()
    if words[0] == b"PING":
        connection.sendall(b"PONG\r\n")
    elif words[0] == b"-ERR":
        sys.exit(line.decode())
    elif words[0] in (b"MSG", b"HMSG"):
        message = lines.read(int(words[-1]))
        headers = int(words[-2]) if words[0] == b"HMSG" else 0
        print(message[headers:].decode())
        break
