package main

import (
	"context"
	"errors"
	"log"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	workspacev1 "github.com/molecule-ai/molecule-grpc/gen/go/moleculeai/workspace/v1"
)

// Service answers WorkspaceService.Heartbeat; every other RPC is unimplemented.
type Service struct {
	workspacev1.UnimplementedWorkspaceServiceServer
	tokens *Tokens
	beats  Beats
}

// Heartbeat answers after the commit.
func (s *Service) Heartbeat(
	ctx context.Context, request *workspacev1.HeartbeatRequest,
) (*workspacev1.HeartbeatResponse, error) {
	result, err := s.beat(ctx, request)
	if err != nil {
		return nil, status.Error(code(err), err.Error())
	}
	return &workspacev1.HeartbeatResponse{
		Status:                "ok",
		PlatformInboundSecret: result.Secret,
		WorkspaceStatus: workspacev1.Workspace_Status(
			workspacev1.Workspace_Status_value[result.Status]),
	}, nil
}

func (s *Service) beat(
	ctx context.Context, r *workspacev1.HeartbeatRequest,
) (Result, error) {
	header := ""
	if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) > 0 {
		header = values[0]
	}
	id, err := s.tokens.Require(ctx, header, r.WorkspaceId)
	if err != nil {
		return Result{}, err
	}
	beat, err := newBeat(
		id, r.ErrorRate, r.SampleError, r.ActiveTasks, r.UptimeSeconds, r.CurrentTask,
		r.MonthlySpend, r.RuntimeState,
	)
	if err != nil {
		return Result{}, err
	}
	return s.beats.Beat(ctx, beat)
}

func code(err error) codes.Code {
	switch {
	case errors.Is(err, errInvalid):
		return codes.InvalidArgument
	case errors.Is(err, errUnauthenticated):
		return codes.Unauthenticated
	case errors.Is(err, errNotFound):
		return codes.NotFound
	default:
		log.Print(err)
		return codes.Internal
	}
}
