ALTER TABLE inbox_items
    ADD CONSTRAINT inbox_items_workspace_id_message_id_source_id_key
    UNIQUE NULLS NOT DISTINCT (workspace_id, message_id, source_id);
DROP INDEX inbox_items_message;
