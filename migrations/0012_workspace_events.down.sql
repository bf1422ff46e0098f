-- A workspace's change is an event, whoever writes it: no writer can forget, and the event is stored
-- with the change or not at all.
CREATE FUNCTION keep_workspace_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    happened text;
BEGIN
    IF TG_OP = 'INSERT' OR NEW.status IS DISTINCT FROM OLD.status THEN
        happened := CASE NEW.status WHEN 'failed' THEN 'WORKSPACE_PROVISION_FAILED'
                                    ELSE 'WORKSPACE_' || upper(NEW.status::text) END;
    ELSIF NEW.agent_card IS DISTINCT FROM OLD.agent_card THEN
        happened := 'AGENT_CARD_UPDATED';
    ELSIF NEW.parent_id IS DISTINCT FROM OLD.parent_id THEN
        happened := 'WORKSPACE_MOVED';
    ELSE
        RETURN NULL;
    END IF;
    INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
    VALUES (gen_random_uuid(), happened, NEW.organization_id, NEW.id, jsonb_strip_nulls(
        jsonb_build_object(
            'name', NEW.name, 'tier', NEW.tier, 'runtime', NEW.runtime, 'status', NEW.status,
            'parent_id', NEW.parent_id,
            'error', CASE WHEN NEW.status IN ('failed', 'degraded') THEN NEW.last_sample_error END
        )));
    RETURN NULL;
END
$$;
CREATE TRIGGER workspace_added AFTER INSERT ON workspaces
    FOR EACH ROW EXECUTE FUNCTION keep_workspace_event();
-- The condition is checked without calling the function: a heartbeat that changes nothing is cheap.
CREATE TRIGGER workspace_changed AFTER UPDATE OF status, agent_card, parent_id ON workspaces
    FOR EACH ROW WHEN (
        OLD.status IS DISTINCT FROM NEW.status
        OR OLD.agent_card IS DISTINCT FROM NEW.agent_card
        OR OLD.parent_id IS DISTINCT FROM NEW.parent_id
    ) EXECUTE FUNCTION keep_workspace_event();
