-- Schedules: prompts that workspaces are given at times that cron expressions name; and their history.
-- Locks: new tables only. Time: milliseconds.

CREATE TABLE workspace_schedules (
    id                     uuid PRIMARY KEY,
    organization_id        uuid NOT NULL,
    workspace_id           uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    name                   text NOT NULL DEFAULT '',
    cron_expr              text NOT NULL,
    timezone               text NOT NULL DEFAULT 'UTC',
    prompt                 text NOT NULL,
    enabled                boolean NOT NULL DEFAULT true,
    source                 text NOT NULL DEFAULT 'runtime' CHECK (source IN ('template', 'runtime')),
    -- The next fire; NULL while disabled.
    next_run_at            timestamptz,
    -- When a worker looks at the row: at `next_run_at`, or later while the agent is busy.
    look_at                timestamptz,
    -- Since when the next fire waits for the agent to have room.
    waiting_since          timestamptz,
    last_run_at            timestamptz,
    last_status            text NOT NULL DEFAULT '',
    last_error             text NOT NULL DEFAULT '',
    run_count              integer NOT NULL DEFAULT 0,
    consecutive_empty_runs integer NOT NULL DEFAULT 0,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    UNIQUE (workspace_id, name),
    CHECK (enabled = (next_run_at IS NOT NULL) AND enabled = (look_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX workspace_schedules_due ON workspace_schedules (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX workspace_schedules_of_organization ON workspace_schedules (organization_id);

-- One row for each fire. The row is committed together with the schedule's next time; whoever finds it
-- `claimed` under a lapsed lease hands it over. Its id is the id of the delegation, so that a second
-- hand-over finds the first.
CREATE TABLE schedule_runs (
    id              uuid PRIMARY KEY,
    schedule_id     uuid NOT NULL REFERENCES workspace_schedules (id) ON DELETE CASCADE,
    organization_id uuid NOT NULL,
    workspace_id    uuid NOT NULL,
    trigger         text NOT NULL CHECK (trigger IN ('cron', 'manual')),
    scheduled_for   timestamptz NOT NULL,
    state           text NOT NULL CHECK (state IN ('claimed', 'running', 'ok', 'error', 'skipped')),
    error           text NOT NULL DEFAULT '',
    -- How many times in a row were skipped for the same reason.
    times           integer NOT NULL DEFAULT 1,
    attempts        integer NOT NULL DEFAULT 0,
    lease_until     timestamptz,
    fired_at        timestamptz,
    ended_at        timestamptz,
    CHECK ((state = 'claimed') = (lease_until IS NOT NULL))
) WITH (fillfactor = 80);
-- At most one fire for each time of a schedule.
CREATE UNIQUE INDEX schedule_runs_of_schedule ON schedule_runs (schedule_id, scheduled_for, trigger);
CREATE INDEX schedule_runs_claimed ON schedule_runs (lease_until) WHERE state = 'claimed';
CREATE INDEX schedule_runs_running ON schedule_runs (id) WHERE state = 'running';
CREATE INDEX schedule_runs_old ON schedule_runs (scheduled_for);
