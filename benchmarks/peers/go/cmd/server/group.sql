UPDATE workspaces w SET
    last_heartbeat_at = now(),
    last_error_rate = coalesce(b.error_rate, w.last_error_rate),
    last_sample_error = CASE WHEN w.status = 'failed' THEN w.last_sample_error
                             ELSE coalesce(b.sample_error, w.last_sample_error) END,
    active_tasks = coalesce(b.active_tasks, w.active_tasks),
    uptime_seconds = coalesce(b.uptime_seconds, w.uptime_seconds),
    current_task = coalesce(b.current_task, w.current_task),
    monthly_spend = coalesce(b.monthly_spend, w.monthly_spend),
    status = CASE
        WHEN w.status = 'online' AND (b.wedged OR coalesce(b.error_rate, w.last_error_rate) >= 0.5)
            THEN 'degraded'
        WHEN w.status = 'degraded' AND NOT b.wedged
                AND coalesce(b.error_rate, w.last_error_rate) < 0.1 THEN 'online'
        WHEN w.status IN ('provisioning', 'awaiting_agent', 'offline') THEN 'online'
        ELSE w.status END
FROM unnest($1::uuid[], $2::float8[], $3::text[], $4::int[], $5::int[], $6::text[], $7::bigint[],
            $8::bool[]) WITH ORDINALITY
    AS b (id, error_rate, sample_error, active_tasks, uptime_seconds, current_task, monthly_spend,
          wedged, ord)
WHERE w.id = b.id AND w.status <> 'removed'
RETURNING b.ord, w.status, coalesce(w.platform_inbound_secret, '')
