# cython: language_level=3
"""A loop of HTTP requests over many connections, compiled: at forty thousand requests a second a client in plain Python is
slower than the server that it measures, and what it measures is itself.

`harness.compile_client` compiles it, beside this file.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close

import wire

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
        uint32_t u32
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    enum: EPOLLIN, EPOLL_CTL_ADD
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event*)
    int epoll_wait(int, epoll_event*, int, int)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events, revents
    enum: POLLIN
    int ppoll(pollfd*, unsigned long, const timespec*, const void*)

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int, const void*, size_t, int)
    ssize_t recv(int, void*, size_t, int)
    enum: MSG_DONTWAIT, MSG_NOSIGNAL

cdef extern from "<string.h>" nogil:
    # Declared by glibc for those who ask for its extensions; Python's headers do.
    void* memmem(const void*, size_t, const void*, size_t)

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int, unsigned long, ...)
    enum: PR_SET_TIMERSLACK

cdef enum:
    EVENTS = 256
    PATIENCE = 60             # seconds, for the last answers


cdef double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + t.tv_nsec * 1e-9


cdef struct Connection:
    int fd
    Py_ssize_t asked          # the number of the request under way; -1: none
    double due
    Py_ssize_t got            # bytes of its answer
    char* data                # the answer, as far as it has come


cdef class Loop:
    """Connections to one server, and what is measured over them.

    Args:
        port: on 127.0.0.1.
        requests: whole requests, which are asked for in turn.
        answers: whole answers to them, headers included. What comes must have the same body; a server's clock, or a number
            of the request, may be in its headers.
        most: connections at the same time.
    Attributes:
        taken: of each answer, the seconds since its request was due.
        late: of each request, the seconds from due to sent.
    """

    cdef list requests, answers, socks
    cdef readonly list taken, late
    cdef int port, epoll
    cdef Py_ssize_t most, n_connections, n_idle, begun, n_open
    cdef Connection* connections
    cdef Py_ssize_t* idle     # indexes, the one used last on top
    cdef Py_ssize_t room      # of an answer

    def __cinit__(self, int port, list requests, list answers, Py_ssize_t most):
        self.port, self.requests, self.answers, self.most = port, requests, answers, most
        self.socks, self.taken, self.late = [], [], []
        self.epoll = epoll_create1(0)
        self.room = max([len(answer) for answer in answers]) + 200
        self.connections = <Connection*>calloc(most, sizeof(Connection))
        self.idle = <Py_ssize_t*>calloc(most, sizeof(Py_ssize_t))
        if self.epoll < 0 or self.connections is NULL or self.idle is NULL:
            raise MemoryError
        prctl(PR_SET_TIMERSLACK, 1000)    # else the system may wake us 50 us late

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.n_connections):
            free(self.connections[i].data)
        free(self.connections)
        free(self.idle)
        close(self.epoll)

    def closed(self, Py_ssize_t workers, double seconds, Py_ssize_t enough):
        """Let each of some connections ask again as soon as it has its answer; until `enough` were answered at least.

        Returns:
            Answers, and the seconds that they took.
        """
        cdef double start = now()
        for _ in range(workers):
            self.begin(now())
        while now() < start + seconds or len(self.taken) < enough:
            for _ in range(self.wait(0.01)):
                self.begin(now())
        return self.ended(start)

    def arrivals(self, double rate, Py_ssize_t total):
        """Ask when it is time to, whatever the server does: `rate` requests a second, `total` of them.

        All connections are there and were used before: a server that falls behind for a moment would otherwise have to
        accept hundreds of new ones, and fall behind for longer.

        Returns: as `closed`.
        """
        cdef double start, due, moment
        cdef Py_ssize_t i
        for i in range(self.most):
            self.begin(now())
        self.finish()
        self.taken, self.late = [], []
        start, i = now(), 0
        while i < total:
            due = start + i / rate
            moment = now()
            if moment < due:
                self.wait(due - moment)
                continue
            self.begin(due)
            i += 1
            if i % 8 == 0:
                self.wait(0)
        return self.ended(start)

    cdef tuple ended(self, double start):
        """Return how much was answered, and in which time; then wait for what is not."""
        cdef Py_ssize_t n = len(self.taken)
        cdef double seconds = now() - start
        self.finish()
        for sock in self.socks:
            sock.close()
        return n, seconds

    cdef int finish(self) except -1:
        """Wait for all answers."""
        cdef double end = now() + PATIENCE
        while self.n_open and now() < end:
            self.wait(0.1)
        if self.n_open:
            raise SystemExit(f"{self.n_open} requests were not answered")
        return 0

    cdef int begin(self, double due) except -1:
        """Ask the next request, which was due at that moment; without a free connection, wait for one."""
        cdef Connection* c
        while self.n_idle == 0 and self.n_connections == self.most:
            self.wait(0.1)
        if self.n_idle:
            self.n_idle -= 1
            c = &self.connections[self.idle[self.n_idle]]
        else:
            c = self.connect()
        c.asked, c.due, c.got = self.begun, due, 0
        self.begun += 1
        self.n_open += 1
        self.late.append(now() - due)
        return self.send(c)

    cdef Connection* connect(self) except NULL:
        cdef Connection* c = &self.connections[self.n_connections]
        c.data = <char*>calloc(1, self.room)
        if c.data is NULL:
            raise MemoryError
        self.n_connections += 1
        self.open(c)
        return c

    cdef int open(self, Connection* c) except -1:
        cdef epoll_event event
        sock = wire.connect(self.port)
        self.socks.append(sock)
        c.fd = sock.fileno()
        memset(&event, 0, sizeof(event))
        event.events = EPOLLIN
        event.data.u32 = <uint32_t>(c - self.connections)
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, c.fd, &event) < 0:
            raise OSError(errno, "epoll_ctl")
        return 0

    cdef int send(self, Connection* c) except -1:
        cdef bytes request = self.requests[c.asked % len(self.requests)]
        cdef Py_ssize_t n, sent = 0, size = PyBytes_GET_SIZE(request)
        while sent < size:
            n = send(c.fd, PyBytes_AS_STRING(request) + sent, size - sent, MSG_NOSIGNAL)
            if n < 0 and errno != EINTR:
                return self.reopen(c)
            sent += max(n, <Py_ssize_t>0)
        return 0

    cdef int reopen(self, Connection* c) except -1:
        """The server has ended a connection that had been idle; what was asked at that moment is asked again."""
        if c.got:
            raise SystemExit("the server closed a connection in the middle of an answer")
        for sock in self.socks:
            if sock.fileno() == c.fd:
                self.socks.remove(sock)
                sock.close()
                break
        self.open(c)
        return self.send(c) if c.asked >= 0 else 0

    cdef Py_ssize_t wait(self, double seconds) except -1:
        """Take the answers that are there, or come within that time; return how many requests they end."""
        cdef epoll_event[EVENTS] events
        cdef timespec limit
        cdef pollfd whole
        cdef Py_ssize_t ended = 0
        cdef int i, n = epoll_wait(self.epoll, events, EVENTS, 0)
        if n == 0 and seconds > 0:
            limit.tv_sec = <long>seconds
            limit.tv_nsec = <long>((seconds - limit.tv_sec) * 1e9)
            whole = pollfd(self.epoll, POLLIN, 0)
            if ppoll(&whole, 1, &limit, NULL) > 0:
                n = epoll_wait(self.epoll, events, EVENTS, 0)
        for i in range(n):
            ended += self.receive(&self.connections[events[i].data.u32])
        return ended

    cdef bint receive(self, Connection* c) except -1:
        """Take what has come of an answer; return whether that was all of it."""
        cdef Py_ssize_t n = recv(c.fd, c.data + c.got, self.room - c.got, MSG_DONTWAIT)
        if n < 0 and errno in (EAGAIN, EINTR):
            return False
        if n <= 0:
            self.reopen(c)
            return False
        c.got += n
        if c.asked < 0:
            self.refuse(c)
        if not self.is_whole(c, self.answers[c.asked % len(self.answers)]):
            return False
        self.taken.append(now() - c.due)
        c.asked = -1
        self.n_open -= 1
        self.idle[self.n_idle] = c - self.connections
        self.n_idle += 1
        return True

    cdef bint is_whole(self, Connection* c, bytes answer) except -1:
        """Whether an answer has come to its end; a wrong one ends the process. Its head may be another than before, but
        for the status and the length of the body."""
        cdef const char* right = PyBytes_AS_STRING(answer)
        cdef const char* head = <const char*>memmem(c.data, c.got, b"\r\n\r\n", 4)
        cdef const char* before = <const char*>memmem(right, PyBytes_GET_SIZE(answer), b"\r\n\r\n", 4)
        cdef Py_ssize_t size = right + PyBytes_GET_SIZE(answer) - before
        cdef bytes length
        if head is NULL:
            return False
        length = b"content-length: %d\r\n" % (size - 4)
        if memcmp(c.data, b"HTTP/1.1 200", 12) != 0 or memmem(c.data, head + 2 - c.data, <char*>length, len(length)) is NULL:
            self.refuse(c)
        if c.data + c.got < head + size:
            return False
        if c.data + c.got > head + size or memcmp(head, before, size) != 0:
            self.refuse(c)
        return True

    cdef int refuse(self, const Connection* c) except -1:
        raise SystemExit(f"another answer than before: {PyBytes_FromStringAndSize(c.data, min(c.got, 500))!r}")
