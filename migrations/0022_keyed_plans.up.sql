-- Of the indexes of an inbox one begins with the workspace, so that a statement that names items by
-- number is planned with the primary key. While the table was small, Postgres took the index of the
-- message ids as well, kept the plan, and then read a whole inbox to acknowledge one item.
-- Locks: inbox_items, exclusively, while the index is built: about 3 s for a million items.

ALTER TABLE inbox_items DROP CONSTRAINT inbox_items_workspace_id_message_id_source_id_key;
-- A sender's retry is known by its message id. Two senders may choose the same one.
CREATE UNIQUE INDEX inbox_items_message ON inbox_items (message_id, workspace_id, source_id)
    NULLS NOT DISTINCT;
