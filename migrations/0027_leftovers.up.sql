-- Workloads whose stop failed while their workspace went on without them: stopped by the next passes.
-- Locks: workspaces against writes while a small index is built: 0.1 s for each 100,000 rows.

CREATE TABLE workspace_leftovers (
    backend         text NOT NULL,
    resource_id     text NOT NULL,
    workspace_id    uuid NOT NULL,
    organization_id uuid NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    -- Whether what the workspace kept goes, too.
    with_volumes    boolean NOT NULL DEFAULT false,
    not_before      timestamptz NOT NULL DEFAULT now(),
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- Gone from the engine. The row stays a while: a list that is older than this is not believed.
    removed_at      timestamptz,
    -- The id is empty for volumes without a workload.
    PRIMARY KEY (workspace_id, backend, resource_id)
);
CREATE INDEX workspace_leftovers_due ON workspace_leftovers (not_before) WHERE removed_at IS NULL;

-- Those that are being provisioned, and those whose way to online was not measured yet.
CREATE INDEX workspaces_provisioning ON workspaces (provisioning_started_at)
    WHERE provisioning_started_at IS NOT NULL;
