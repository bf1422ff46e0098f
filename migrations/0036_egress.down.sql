DROP TABLE workspace_refused_hosts;
DROP TABLE workspace_proxied;
