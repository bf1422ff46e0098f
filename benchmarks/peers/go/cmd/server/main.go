// Command server is the peer of `python -m benchmarks.peers`: heartbeats over gRPC and REST, on the
// schema of our migrations, with one statement a call or with group commit.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"net/http"

	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"

	workspacev1 "github.com/molecule-ai/molecule-grpc/gen/go/moleculeai/workspace/v1"
)

func main() {
	dsn := flag.String("dsn", "", "the database")
	grpcAddress := flag.String("grpc", "127.0.0.1:0", "address of gRPC")
	restAddress := flag.String("rest", "127.0.0.1:0", "address of REST")
	grouped := flag.Bool("group", false, "one statement for all who wait")
	connections := flag.Int("pool", 16, "connections of the pool")
	flag.Parse()
	log.Fatal(serve(*dsn, *grpcAddress, *restAddress, *grouped, int32(*connections)))
}

func serve(dsn, grpcAddress, restAddress string, grouped bool, connections int32) error {
	ctx := context.Background()
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return err
	}
	config.MaxConns, config.MinConns = connections, connections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	var beats Beats = One{pool}
	if grouped {
		if beats, err = newGroup(ctx, dsn); err != nil {
			return err
		}
	}
	tokens := newTokens(pool)
	server := grpc.NewServer()
	workspacev1.RegisterWorkspaceServiceServer(server, &Service{tokens: tokens, beats: beats})
	listener, err := net.Listen("tcp", grpcAddress)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(listener) }()
	go func() { failed <- http.ListenAndServe(restAddress, newRouter(tokens, beats)) }()
	return <-failed
}
