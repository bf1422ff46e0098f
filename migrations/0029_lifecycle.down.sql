DROP TABLE sweep_turns;
DROP INDEX workspaces_asleep;
ALTER TABLE workspaces DROP COLUMN restart_context, DROP COLUMN asleep_since;
