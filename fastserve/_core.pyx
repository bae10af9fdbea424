# cython: language_level=3, auto_pickle=False
"""The compiled core of fastserve: whatever runs per entity or per value.

This file is the contents page. The parts are included in dependency order; each opens with the byte layout it implements.
Nothing here does I/O, and no protobuf class touches an entity or a value. The readable twin of every format is
`tests/reference.py`.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.datetime cimport datetime_new, import_datetime
from cpython.dict cimport PyDict_GetItemWithError
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_FromDouble
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_FromLongLong
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.math cimport NAN, isfinite, isnan, rint
from libc.stdint cimport (
    INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
)
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strcmp, strlen
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

import base64
import json
import operator
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

from fastserve.errors import DecodeError, EncodeError, EntityError, VectorStaleError, VectorVersionError

import_datetime()

include "_core_bytes.pxi"    # Cursor (bounded reads), Sink (growing buffer), varints, decimal text, JSON text
include "_core_double.pxi"   # double -> text
include "_core_value.pxi"    # feature Value: wire bytes -> Python
include "_core_json.pxi"     # feature Value: wire bytes -> JSON
include "_core_encode.pxi"   # feature Value: Python -> wire bytes
include "_core_key.pxi"      # entity keys: serialise, deserialise, prefix; hash field ids
include "_core_layout.pxi"   # VectorLayout: what a packed vector of all features of a service looks like
include "_core_plan.pxi"     # ReadPlan, KeyGroup, Slot: what does not depend on the entities
include "_core_resp.pxi"     # Redis's replies: numbers, texts, errors
include "_core_rows.pxi"     # a request's rows -> columns
include "_core_batch.pxi"    # Batch: distinct entities, framed commands, what the store holds for them
include "_core_replies.pxi"  # the replies to a Batch's commands, scanned into its cells
include "_core_vector.pxi"   # packed vectors: checked, and read in place
include "_core_feast.pxi"    # Feast's precomputed vectors, both ways
include "_core_known.pxi"    # Batches of keys that a store gave
include "_core_emit.pxi"     # Batch -> JSON | protobuf
include "_core_python.pxi"   # Batch -> dict of columns
include "_core_transform.pxi"  # inputs of on-demand feature views, and their outputs
include "_core_meter.pxi"    # what a server counts: counters, histograms, statuses per view
include "_core_compact.pxi"  # Batch -> compact JSON, statuses as bytes
include "_core_answer.pxi"   # an answer on its way to a client of ours, and received: bytes <-> Batch
include "_core_lane.pxi"     # requests whose like was there before -> Batch -> responses, for the server's fast lane
include "_core_columns.pxi"  # Batch -> buffers of columns for Arrow and NumPy
include "_core_gather.pxi"   # columns of fixed width from packed vectors
include "_core_numpy.pxi"    # Batch -> buffers of columns as NumPy has them
include "_core_arrow.pxi"    # Arrow columns -> framed Values
include "_core_table.pxi"    # WritePlan, Table: an Arrow batch bound to it, keys and times
include "_core_write.pxi"    # EncodedRows: rows -> framed calls of the script that writes
include "_core_pack.pxi"     # rows, and filled Batches -> packed vectors, framed for the script that merges them
include "_core_merge.pxi"    # two packed vectors of one entity -> one
include "_core_latest.pxi"   # the latest row per entity key

# What only the core itself may make is not for Python to make.
for _name in (
    "BatchPacker", "Cells", "Elements", "Elementwise", "EventTimes", "FeastNames", "FeastReader", "FieldTable", "Gathering",
    "KeyTable", "LatestRows", "Merge", "NumpyBlock", "RowPacker", "Shape", "Sink", "Table",
):
    del globals()[_name]
