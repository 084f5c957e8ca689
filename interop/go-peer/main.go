// Command go-peer performs one method of a Nex client against a nexus and prints the outcome as
// one line of JSON; or it is a nexlet, local or remote, or a node, until it is told to end.
//
// It is not Go Nex: it is written from the description of the wire, on the NATS libraries that Go
// Nex uses, so that peers made of them talk to our nodes, nexlets and command line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// arguments are what the methods take, in one object; each reads its own.
type arguments struct {
	Node    string               `json:"node"`
	ID      string               `json:"id"`
	Type    string               `json:"type"`
	Tags    map[string]string    `json:"tags"`
	Filter  []string             `json:"filter"`
	Bid     string               `json:"bid"`
	Delay   string               `json:"delay"`
	Request startWorkloadRequest `json:"request"`
	Data    string               `json:"data"`
	Nexus   string               `json:"nexus"`
	Seed    string               `json:"seed"`
	State   string               `json:"state"`
	Unheard bool                 `json:"unheard"`
}

type outcome struct {
	Method    string     `json:"method"`
	OK        bool       `json:"ok"`
	Result    any        `json:"result,omitempty"`
	Error     *wireError `json:"error,omitempty"`
	Exchanges int        `json:"exchanges"`
	TookMS    int64      `json:"took_ms"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	url := flag.String("url", nats.DefaultURL, "the NATS server")
	creds := flag.String("creds", "", "a credentials file")
	namespace := flag.String("namespace", "default", "the namespace of the caller")
	timeout := flag.Duration("timeout", 60*time.Second, "how long the method may take")
	flag.Parse()
	if flag.NArg() != 2 {
		return errors.New("usage: go-peer [flags] METHOD ARGUMENTS, the arguments as a JSON object")
	}
	method := flag.Arg(0)
	var args arguments
	if err := json.Unmarshal([]byte(flag.Arg(1)), &args); err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if method == "LocalNexlet" {
		return runLocalNexlet(ctx, args.Type)
	}
	options := []nats.Option{nats.MaxReconnects(-1)}
	if *creds != "" {
		options = append(options, nats.UserCredentials(*creds))
	}
	nc, err := nats.Connect(*url, options...)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	switch method {
	case "RemoteNexlet":
		return runRemoteNexlet(ctx, nc, args.Nexus, args.Type)
	case "Node":
		return runNode(ctx, nc, *url, args)
	}

	c := &client{nc: nc, namespace: *namespace}
	ctx, cancel = context.WithTimeout(ctx, *timeout)
	defer cancel()
	started := time.Now()
	result, err := c.call(ctx, method, args)
	line := outcome{Method: method, OK: err == nil, Exchanges: c.sent, TookMS: time.Since(started).Milliseconds()}
	if err == nil {
		line.Result = result
	} else if !errors.As(err, &line.Error) {
		line.Error = &wireError{Status: 500, Text: err.Error()}
	}
	return json.NewEncoder(os.Stdout).Encode(line)
}

func (c *client) call(ctx context.Context, method string, args arguments) (any, error) {
	switch method {
	case "GetNexusPTags":
		return c.getNexusPTags(ctx)
	case "GetNodeInfo":
		return c.getNodeInfo(ctx, args.Node)
	case "ListNodes":
		return c.listNodes(ctx, args.Tags)
	case "Auction":
		return c.auction(ctx, c.namespace, args.Type, args.Tags)
	case "StartWorkload":
		return c.startWorkload(ctx, args.Bid, args.Request)
	case "ListWorkloads":
		return c.listWorkloads(ctx, args.Filter)
	case "StopWorkload":
		return c.stopWorkload(ctx, args.ID)
	case "CloneWorkload":
		return c.cloneWorkload(ctx, args.ID, args.Tags)
	case "SetLameduck":
		return c.setLameduck(ctx, args.Node, lameduckRequest{Delay: args.Delay, Tag: args.Tags})
	case "Trigger":
		return c.trigger(ctx, args.ID, args.Data)
	case "CreateServerSeed":
		return createServerSeed()
	default:
		return nil, fmt.Errorf("no method %q", method)
	}
}
