package main

import (
	"context"
	"fmt"
	"log"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const consumersOfConnection = 100

// natsMessages publishes to one JetStream stream with file storage; each subject has a consumer of
// its own, which acknowledges nothing, like a reader of StreamInbox.
func natsMessages(p plan) figures {
	ctx := context.Background()
	c := &courier{plan: p}
	publishers := connectNats(p.Target)
	// A round before this one left a stream of the same name.
	_ = publishers.DeleteStream(ctx, "inboxes")
	stream, err := publishers.CreateStream(ctx, jetstream.StreamConfig{
		Name: "inboxes", Subjects: []string{"inbox.*"}, Storage: jetstream.FileStorage,
	})
	if err != nil {
		log.Fatal(err)
	}
	var conn jetstream.JetStream
	for n := range p.Agents {
		if n%consumersOfConnection == 0 {
			conn = connectNats(p.Target)
		}
		consume(ctx, c, conn, stream.CachedInfo().Config.Name, subject(n))
	}
	c.append = func(inbox int) error {
		_, err := publishers.Publish(ctx, subject(inbox), []byte(stamp()))
		return err
	}
	return c.run()
}

func subject(inbox int) string {
	return fmt.Sprintf("inbox.%d", inbox)
}

func connectNats(target string) jetstream.JetStream {
	conn, err := nats.Connect("nats://" + target)
	if err != nil {
		log.Fatal(err)
	}
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(patience))
	if err != nil {
		log.Fatal(err)
	}
	return js
}

func consume(ctx context.Context, c *courier, js jetstream.JetStream, stream, name string) {
	consumer, err := js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
		FilterSubject: name, AckPolicy: jetstream.AckNonePolicy,
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = consumer.Consume(func(message jetstream.Msg) { c.deliver(string(message.Data())) })
	if err != nil {
		log.Fatal(err)
	}
}
