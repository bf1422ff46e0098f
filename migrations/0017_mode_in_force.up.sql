-- delivery_mode is what an agent or its creator has stated; NULL where nobody did, and the URL decides.
-- mode_in_force is how messages reach the workspace, worked out at every reading.
-- Locks: exclusive on workspaces for milliseconds, no row is rewritten, and a lock on each row of an external
-- workspace until the end: 10,000 rows in 0.2 s. The previous version takes a workspace without a stated mode
-- for one that polls, which is wrong only for one that has a URL since.

ALTER TABLE workspaces ADD COLUMN mode_in_force text NOT NULL GENERATED ALWAYS AS (
    coalesce(nullif(delivery_mode, ''), CASE
        WHEN url <> '' THEN 'push'
        -- Has announced itself without a URL, or is going to.
        WHEN runtime = 'external' OR agent_card IS NOT NULL THEN 'poll'
        ELSE 'push'
    END)
) VIRTUAL;

-- The previous version stored what it had worked out: forget what would be worked out the same.
UPDATE workspaces SET delivery_mode = NULL
WHERE runtime = 'external' AND delivery_mode = CASE WHEN url <> '' THEN 'push' ELSE 'poll' END;
