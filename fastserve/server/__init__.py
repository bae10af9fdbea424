"""The HTTP server; needs the extra `server`.

path            what
run.py          `fastserve serve`: sockets, workers, TLS, signals
fastlane.py     the protocol of a connection: answers reads itself, hands everything else to ASGI
app.py          the ASGI application: routes
read.py         a read request: body -> answer, for both lanes
answers.py      errors as answers
body.py         the bodies of requests: bytes -> struct, or Feast's error
openapi.py      the OpenAPI document and the page /docs
hooks.py        what surrounds a request in either lane: auth.py, logs.py, metrics.py
health.py       /readyz
sampler.py      gauges, looked at now and then; metrics_port.py the port for Prometheus
metrics.py      what is counted; cells.py keeps it for all processes to read, exposition.py shows it to Prometheus
"""
