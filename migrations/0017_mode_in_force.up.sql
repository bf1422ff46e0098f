-- delivery_mode is what an agent or its creator has stated; NULL where nobody did, and the URL decides.
-- mode_in_force is how messages reach the workspace, worked out at every reading.
-- Locks: exclusive on workspaces, reads too, until the rows of external workspaces are written: 0.2 s for each
-- 10,000. The previous version takes every workspace without a stated mode for a poller, also an external one
-- that has registered a URL since.

ALTER TABLE workspaces ADD COLUMN mode_in_force text NOT NULL GENERATED ALWAYS AS (
    coalesce(nullif(delivery_mode, ''), CASE
        WHEN url <> '' THEN 'push'
        -- Has announced itself without a URL, or is going to.
        WHEN runtime = 'external' OR agent_card IS NOT NULL THEN 'poll'
        ELSE 'push'
    END)
) VIRTUAL;

-- The previous version stored derived modes: forget those that mode_in_force derives alike.
UPDATE workspaces SET delivery_mode = NULL
WHERE runtime = 'external' AND delivery_mode = CASE WHEN url <> '' THEN 'push' ELSE 'poll' END;
