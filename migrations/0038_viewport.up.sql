-- What part of the canvas people of an organisation look at.
-- Locks: a new table only. Time: milliseconds.

CREATE TABLE canvas_viewport (
    organization_id uuid PRIMARY KEY REFERENCES organizations (id) ON DELETE CASCADE,
    x               double precision NOT NULL DEFAULT 0,
    y               double precision NOT NULL DEFAULT 0,
    zoom            double precision NOT NULL DEFAULT 1,
    saved_at        timestamptz NOT NULL DEFAULT now()
);
