DROP TABLE schedule_runs;
DROP TABLE workspace_schedules;
