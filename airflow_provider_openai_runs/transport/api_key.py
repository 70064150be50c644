# SPDX-License-Identifier: Apache-2.0
"""Keys that a function provides anew for each request, such as Entra ID tokens for Azure AI Foundry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai
from airflow.providers.common.compat.module_loading import import_string

#: How long a request waits for its key; its wait has a deadline of its own.
_KEY_SECONDS = 30.0


def key_provider(path: object) -> Callable[[], str]:
    """
    Return the function that the connection's extra ``api_key_provider`` names.

    The SDK calls it for each request; it must be quick, that is, keep its token until shortly before its end.

    :param path: import path of a callable that takes nothing and returns the key.
    :raises ValueError: if it names no such thing.
    """
    try:
        provide: Any = import_string(str(path))
    except (ImportError, ValueError) as error:
        raise ValueError(f"api_key_provider={path!r} cannot be imported: {error}") from error
    if not callable(provide):
        raise ValueError(f"api_key_provider={path!r} is not callable but a {type(provide).__name__}")  # noqa: TRY004

    def key() -> str:
        try:
            found = provide()
        except Exception as error:
            # The SDK's own kind, so that a request without a key is a request that failed.
            raise openai.OpenAIError(f"api_key_provider {path}: {type(error).__name__}: {error}") from error
        if not isinstance(found, str) or not found.strip():
            raise openai.OpenAIError(f"api_key_provider {path} returned no text but {type(found).__name__}")
        return found.strip()

    return key


def in_a_thread(key: Callable[[], str]) -> Callable[[], Awaitable[str]]:
    """Return the same for an asynchronous client, whose event loop it must not block."""

    async def provide() -> str:
        try:
            async with asyncio.timeout(_KEY_SECONDS):
                return await asyncio.to_thread(key)
        except TimeoutError as error:
            raise openai.OpenAIError(f"api_key_provider gave no key within {_KEY_SECONDS:.0f} s") from error

    return provide
