package main

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// As long as MOLECULE_TOKEN_CACHE_SECONDS.
	tokenSeconds = 30 * time.Second
	findToken    = `
		SELECT t.workspace_id
		FROM workspace_auth_tokens t JOIN workspaces w ON w.id = t.workspace_id
		WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND w.status <> 'removed'
		  AND (t.expires_at IS NULL OR t.expires_at > now())`
)

type holder struct {
	workspace pgtype.UUID
	until     time.Time
}

// Tokens finds whose token a call shows, by its SHA-256 alone.
type Tokens struct {
	pool *pgxpool.Pool
	mu   sync.RWMutex
	seen map[[sha256.Size]byte]holder
}

func newTokens(pool *pgxpool.Pool) *Tokens {
	return &Tokens{pool: pool, seen: map[[sha256.Size]byte]holder{}}
}

// Require returns the id of the workspace that a request names, if the token is that workspace's.
func (t *Tokens) Require(ctx context.Context, header, workspace string) (pgtype.UUID, error) {
	var id pgtype.UUID
	if err := id.Scan(workspace); err != nil {
		return id, errInvalid
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return id, errUnauthenticated
	}
	found, err := t.find(ctx, sha256.Sum256([]byte(strings.TrimSpace(token))))
	if err != nil || found != id {
		return id, errUnauthenticated
	}
	return id, nil
}

func (t *Tokens) find(ctx context.Context, digest [sha256.Size]byte) (pgtype.UUID, error) {
	t.mu.RLock()
	known := t.seen[digest]
	t.mu.RUnlock()
	if time.Now().Before(known.until) {
		return known.workspace, nil
	}
	fresh := holder{until: time.Now().Add(tokenSeconds)}
	err := t.pool.QueryRow(ctx, findToken, digest[:]).Scan(&fresh.workspace)
	if err != nil {
		return fresh.workspace, err
	}
	t.mu.Lock()
	t.seen[digest] = fresh
	t.mu.Unlock()
	return fresh.workspace, nil
}
