"""How large a request may be, by whatever way it comes."""

from __future__ import annotations

# A REST body, or one message of a gRPC call, as a stock gRPC server has it. Uploads are streams of
# such messages, with limits of their own. A text of 1 MiB fits however JSON escapes it.
MAX_REQUEST_BYTES = 4 * 1024 * 1024

# A worker's answer, or one message of a worker's stream. Pages end at 3 MiB, so that a stock gRPC
# client takes the pages; a single row may be larger.
MAX_ANSWER_BYTES = 16 * 1024 * 1024

# All headers of a request together: what a REST call gets 431 for, a gRPC call RESOURCE_EXHAUSTED.
MAX_HEADER_BYTES = 60 * 1024

# The same of a call that shows no token: the edge refuses it before a worker decodes its headers.
MAX_STRANGER_HEADER_BYTES = 16 * 1024
