package main

import (
	"context"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	delegationv1 "github.com/molecule-ai/molecule-grpc/gen/go/moleculeai/delegation/v1"
)

// dial makes a connection of its own; it connects with the first call.
func dial(target string) *grpc.ClientConn {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	return conn
}

// as returns a context whose calls carry an agent's token.
func as(agent [2]string) context.Context {
	return metadata.AppendToOutgoingContext(
		context.Background(), "authorization", "Bearer "+agent[1])
}

func delegations(conn *grpc.ClientConn) delegationv1.DelegationServiceClient {
	return delegationv1.NewDelegationServiceClient(conn)
}
