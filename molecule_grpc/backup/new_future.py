"""What changes in restored data, so that nothing of the lost future is mistaken for the new one.

A restored installation continues from the moment of its backup. Clients still hold cursors, tokens
and session numbers that were handed out after that moment, and the new future hands out the same
numbers for other things.
"""

from __future__ import annotations

from typing import Final

# The first schema that the statements fit: it has keys, and positions of events can be changed.
FIRST_SCHEMA: Final = 11

# Cursors of an inbox carry its generation.
_INBOXES: Final = """
    UPDATE inbox_heads SET
        generation = gen_random_uuid(),
        -- No session of the lost future has the number of a session to come.
        lease_epoch = greatest(lease_epoch + 1, extract(epoch FROM now())::bigint);
"""

# Resume tokens of events carry the installation's generation, which is the head of this "key".
_GENERATION: Final = """
    INSERT INTO installation_keys (purpose, key)
    VALUES ('generation', sha256(uuid_send(gen_random_uuid())))
    ON CONFLICT (purpose) DO UPDATE SET key = excluded.key;
"""

# Page tokens name places in lists.
_PAGE_TOKENS: Final = """
    UPDATE installation_keys
    SET key = sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
    WHERE purpose = 'page_tokens';
"""

# Events are ordered by the transaction that wrote them, and Postgres numbers the transactions of
# a new cluster from the beginning: restored events would lie in the future, where no reader looks,
# and new ones before them. Transaction 1 is older than all that can come. Places are renumbered in
# the order of the feed; the sequence is beyond them already.
_EVENTS: Final = """
    UPDATE structure_events e SET xact = '1', position = o.position
    FROM (SELECT id, row_number() OVER (ORDER BY xact, position) AS position
          FROM structure_events) o
    WHERE o.id = e.id;
"""


def statements(schema: str) -> str:
    """The statements, to run in the transaction that loads the data."""
    quoted = '"' + schema.replace('"', '""') + '"'
    return f"SET LOCAL search_path = {quoted};\n{_INBOXES}{_GENERATION}{_PAGE_TOKENS}{_EVENTS}"
