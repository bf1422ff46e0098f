DROP INDEX workspaces_image;
CREATE INDEX workspaces_image ON workspaces (runtime_image_digest) WHERE runtime_image_digest IS NOT NULL;
DROP TABLE runtime_images_seen;
DROP TABLE runtime_image_pins;
