"""The HTTP server; needs the extra `server`.

path            what
run.py          `fastserve serve`: options, sockets, TLS
workers.py      its processes: start, replacement, end
protocol.py     a connection: limits, time-outs, errors on the level of HTTP; everything else goes to ASGI
fastlane.py     and one that answers reads itself
limits.py       what a server takes on
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
