UPDATE workspaces w SET
    last_heartbeat_at = now(),
    last_error_rate = coalesce($2::float8, w.last_error_rate),
    last_sample_error = CASE WHEN w.status = 'failed' THEN w.last_sample_error
                             ELSE coalesce($3::text, w.last_sample_error) END,
    active_tasks = coalesce($4::int, w.active_tasks),
    uptime_seconds = coalesce($5::int, w.uptime_seconds),
    current_task = coalesce($6::text, w.current_task),
    monthly_spend = coalesce($7::bigint, w.monthly_spend),
    status = CASE
        WHEN w.status = 'online' AND ($8::bool OR coalesce($2, w.last_error_rate) >= 0.5)
            THEN 'degraded'
        WHEN w.status = 'degraded' AND NOT $8 AND coalesce($2, w.last_error_rate) < 0.1
            THEN 'online'
        WHEN w.status IN ('provisioning', 'awaiting_agent', 'offline') THEN 'online'
        ELSE w.status END
WHERE w.id = $1 AND w.status <> 'removed'
RETURNING w.status, coalesce(w.platform_inbound_secret, '')
