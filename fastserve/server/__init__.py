"""The HTTP server; needs the extra `server`.

path            what
run.py          `fastserve serve`: sockets, workers, TLS, signals
app.py          the ASGI application: routes, errors
body.py         the body of a read request: bytes -> struct, or Feast's error
openapi.py      the OpenAPI document and the page /docs
"""
