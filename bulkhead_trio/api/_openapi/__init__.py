"""The API's description as data: an OpenAPI 3.1 document of exactly what this version answers."""

from bulkhead_trio.api._openapi.document import openapi_document

__all__ = ["openapi_document"]
