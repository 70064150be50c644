# SPDX-License-Identifier: Apache-2.0
"""Compressed answers, in every form that the SDK's own client reads."""

from __future__ import annotations

import gzip
import zlib

import httpx2
import pytest

from airflow_provider_openai_runs.transport.limits import MAX_BODY, Intake

BODY = b'{"id": "resp_1", "status": "completed"}' * 50


def deflated(data: bytes, window: int) -> bytes:
    packer = zlib.compressobj(wbits=window)
    return packer.compress(data) + packer.flush()


FORMS = {
    "gzip": ("gzip", gzip.compress(BODY)),
    "x-gzip": ("X-GZip", gzip.compress(BODY)),
    "two members": ("gzip", gzip.compress(BODY[:99]) + gzip.compress(BODY[99:])),
    "a tail": ("gzip", gzip.compress(BODY) + b"\0" * 99),
    "zlib": ("deflate", zlib.compress(BODY)),
    "raw": ("deflate", deflated(BODY, -15)),
    "twice": ("gzip, gzip", gzip.compress(gzip.compress(BODY))),
    "two codings": ("deflate, gzip", gzip.compress(zlib.compress(BODY))),
    "identity": ("identity", BODY),
    "listed identity": ("identity, gzip", gzip.compress(BODY)),
    "none": (None, BODY),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("piece", [1, 7, 1_000_000])
def test_every_form_is_read_in_pieces_of_any_size(form: str, piece: int) -> None:
    coding, packed = FORMS[form]
    intake = Intake(is_error=False, coding=coding)
    pieces = [packed[start : start + piece] for start in range(0, len(packed), piece)]
    assert b"".join(found for received in pieces for found in intake.take(received)) == BODY


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "gzip, gzip, gzip, gzip"])
def test_what_was_not_asked_for_is_said(coding: str) -> None:
    with pytest.raises(httpx2.DecodingError, match="packed"):
        Intake(is_error=False, coding=coding)


@pytest.mark.parametrize(("coding", "times"), [("gzip", 1), ("gzip, gzip", 2)])
def test_a_bomb_is_given_up_at_the_limit(coding: str, times: int) -> None:
    packed = b"x" * (2 * MAX_BODY)
    for _ in range(times):
        packed = gzip.compress(packed)
    with pytest.raises(httpx2.DecodingError, match="more than"):
        list(Intake(is_error=False, coding=coding).take(packed))
    error = b"".join(Intake(is_error=True, coding=coding).take(packed))
    assert set(error) == {ord("x")}


def test_what_is_not_packed_is_said() -> None:
    with pytest.raises(httpx2.DecodingError, match="cannot be unpacked"):
        list(Intake(is_error=False, coding="gzip").take(b'{"id": 1}' * 20))
