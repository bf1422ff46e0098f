UPDATE workspaces SET delivery_mode = mode_in_force WHERE delivery_mode IS NULL;
ALTER TABLE workspaces DROP COLUMN mode_in_force;
