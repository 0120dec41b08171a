"""What a client is told when something is wrong: OpenAI's error objects with their status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qwen3_mlx.errors import EngineError, OptionError, PromptError, Qwen3Error, ToolError

__all__ = ["ApiError", "Gone", "told"]

# What the client can do something about; every other error of the library is ours.
_OF_THE_CLIENT = (OptionError, PromptError, ToolError)
_TOO_LONG = "tokens and the context"


class Gone(Exception):
    """The client has left, or takes nothing any more."""


class ApiError(Exception):
    """A request that is not answered.

    >>> ApiError(404, "there is no such page").body()["error"]["type"]
    'invalid_request_error'
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})
        self.last_pieces: Sequence[Any] = ()  # what a stream ends with that has begun already

    @property
    def kind(self) -> str:
        """OpenAI's word for the status."""
        if self.status >= 500:
            return "server_error"
        named = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        return named.get(self.status, "invalid_request_error")

    def body(self) -> dict[str, Any]:
        """The object that goes out."""
        about = {"message": self.message, "type": self.kind, "param": self.param}
        return {"error": {**about, "code": self.code}}


def told(error: Exception, prompt_param: str | None = None) -> ApiError:
    """An error of any kind, as the client hears it.

    Args:
        prompt_param: what the prompt is called in the request.

    >>> told(PromptError("the prompt is empty"), "messages").param
    'messages'
    >>> told(EngineError("the engine met a fault")).status
    500
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PromptError):
        code = "context_length_exceeded" if _TOO_LONG in str(error) else None
        return ApiError(400, str(error), param=prompt_param, code=code)
    if isinstance(error, _OF_THE_CLIENT):
        return ApiError(400, str(error))
    if isinstance(error, EngineError):
        return ApiError(500, str(error), code="engine_fault")
    if isinstance(error, Qwen3Error):
        return ApiError(503, str(error), code="model_unavailable")
    return ApiError(500, f"the server met a fault ({type(error).__name__})", code="fault")
