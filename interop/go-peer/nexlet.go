package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"
)

const (
	// How often a nexlet says that it lives; that is as long as a Go node waits.
	beatPeriod = 10 * time.Second
	// How long a stopped workload of the kind that dies slowly is still there.
	slowDeath = 3 * time.Second
	// The code of every error of a nexlet of the Go SDK.
	nexletError = "100"
)

var errNotFound = errors.New("workload not found")

// memRequest is what a workload in memory is told. Its start fails, or its death takes long.
type memRequest struct {
	Fail string `json:"fail,omitempty"`
	Slow bool   `json:"slow,omitempty"`
}

const memSchema = `{"type":"object","properties":{"fail":{"type":"string"},"slow":{"type":"boolean"}}}`

type memWorkload struct {
	request startWorkloadRequest
	run     memRequest
	started time.Time
	state   workloadState
	// The connection of a function's trigger, with the workload's own credentials.
	trigger *nats.Conn
}

// nexlet is one in the manner of the Go SDK: its order of steps, its subjects, its replies and
// their flaws. It runs workloads that are entries of a map.
type nexlet struct {
	kind    string
	node    string
	id      string
	started time.Time
	nc      *nats.Conn

	mu        sync.Mutex
	workloads map[string]*memWorkload
}

// say tells the test what happened: one JSON object a line.
func say(what string, fields map[string]any) {
	line := maps.Clone(fields)
	line["nexlet"] = what
	data, _ := json.Marshal(line)
	fmt.Fprintln(os.Stdout, string(data))
}

// runRemoteNexlet asks the nexus for a node and serves it until ctx ends.
func runRemoteNexlet(ctx context.Context, nc *nats.Conn, nexus, kind string) error {
	msg, err := nc.Request("$NEX.SVC."+nexus+".agent.RREGISTER", []byte("{}"), 3*time.Second)
	if err != nil {
		return fmt.Errorf("remote registration: %w", err)
	}
	if err := refusal(msg); err != nil {
		return err
	}
	var response registerRemoteResponse
	if err := json.Unmarshal(msg.Data, &response); err != nil {
		return err
	}
	return runNexlet(ctx, kind, response.RespondTo, response.AssignedID, *response.Creds)
}

// runLocalNexlet serves the node that started this process.
func runLocalNexlet(ctx context.Context, kind string) error {
	variable := func(name string) string { return os.Getenv("NEX_AGENT_" + name) }
	for _, name := range []string{
		"NATS_SERVERS", "NATS_USER_SEED", "NATS_B64_JWT", "NATS_USER", "NATS_PASSWORD",
		"NATS_USER_NKEY", "NODE_ID", "ASSIGNED_ID",
	} {
		if _, ok := os.LookupEnv("NEX_AGENT_" + name); !ok {
			return fmt.Errorf("NEX_AGENT_%s is not set", name)
		}
	}
	jwt, err := base64.StdEncoding.DecodeString(variable("NATS_B64_JWT"))
	if err != nil {
		return fmt.Errorf("NEX_AGENT_NATS_B64_JWT: %w", err)
	}
	creds := natsConnectionData{
		Servers: strings.Split(variable("NATS_SERVERS"), ","), Seed: variable("NATS_USER_SEED"), JWT: string(jwt),
		User: variable("NATS_USER"), Password: variable("NATS_PASSWORD"), Nkey: variable("NATS_USER_NKEY"),
	}
	return runNexlet(ctx, kind, variable("NODE_ID"), variable("ASSIGNED_ID"), creds)
}

func runNexlet(ctx context.Context, kind, node, id string, creds natsConnectionData) error {
	if !nkeys.IsValidPublicServerKey(node) {
		return fmt.Errorf("the id of the node is no server key: %q", node)
	}
	n := &nexlet{kind: kind, node: node, id: id, started: time.Now(), workloads: map[string]*memWorkload{}}
	response, err := n.register(creds)
	if err != nil {
		return err
	}
	if n.nc, err = response.Connection.connect("nexlet_go"); err != nil {
		return fmt.Errorf("connect as a nexlet: %w", err)
	}
	defer n.nc.Close()
	if err := n.beat(); err != nil {
		return err
	}
	service, err := n.serve()
	if err != nil {
		return err
	}
	defer service.Stop()
	if err := n.nc.Flush(); err != nil {
		return err
	}
	say("registered", map[string]any{"id": id, "existing": slices.Sorted(maps.Keys(response.Existing))})
	for workload, order := range response.Existing {
		if _, err := n.start(workload, order, true); err != nil {
			say("not restored", map[string]any{"id": workload, "error": err.Error()})
		}
	}
	beats := time.NewTicker(beatPeriod)
	defer beats.Stop()
	for {
		select {
		case <-ctx.Done():
			say("ended", map[string]any{"served": served(service)})
			return nil
		case <-beats.C:
			if err := n.beat(); err != nil {
				return err
			}
		}
	}
}

// served is how many requests a service has answered, or was silent about.
func served(service micro.Service) int {
	sum := 0
	for _, endpoint := range service.Stats().Endpoints {
		sum += endpoint.NumRequests
	}
	return sum
}

func (n *nexlet) register(creds natsConnectionData) (*registerResponse, error) {
	nc, err := creds.connect("nexlet_go")
	if err != nil {
		return nil, fmt.Errorf("connect to register: %w", err)
	}
	defer nc.Close()
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	request, err := json.Marshal(registerRequest{
		Description: "keeps workloads in memory", Name: "go_mem", PublicXKey: public, Type: n.kind,
		Schema: memSchema, Lifecycles: []lifecycle{"job", "service", "function"}, Version: "0.0.0",
	})
	if err != nil {
		return nil, err
	}
	msg, err := nc.Request("$NEX.SVC."+n.node+".agent.REGISTER."+n.id, request, time.Minute)
	if err != nil {
		return nil, fmt.Errorf("registration: %w", err)
	}
	// As in the SDK: error headers are not looked at, the body has to say it.
	response := &registerResponse{}
	if err := json.Unmarshal(msg.Data, response); err != nil {
		return nil, err
	}
	if !response.Success {
		return nil, fmt.Errorf("agent registration failed: %s", response.Message)
	}
	return response, nil
}

func (n *nexlet) summary() agentSummary {
	n.mu.Lock()
	defer n.mu.Unlock()
	return agentSummary{
		Name: "go_mem", StartTime: n.started, State: "running", SupportedLifecycles: "job,service,function",
		Type: n.kind, Version: "0.0.0", WorkloadCount: len(n.workloads),
	}
}

func (n *nexlet) beat() error {
	data, err := json.Marshal(agentHeartbeat{Summary: n.summary()})
	if err != nil {
		return err
	}
	return n.nc.Publish("$NEX.SVC."+n.node+".agent.HEARTBEAT."+n.id, data)
}

func (n *nexlet) serve() (micro.Service, error) {
	service, err := micro.AddService(n.nc, micro.Config{Name: "go_mem", Version: "0.0.0"})
	if err != nil {
		return nil, err
	}
	node := "$NEX.SVC." + n.node + ".agent."
	for _, endpoint := range []struct {
		name, subject string
		handle        func(micro.Request)
	}{
		{"StartWorkload", node + n.id + ".STARTWORKLOAD.*", n.onStart},
		{"StopWorkload", node + "STOPWORKLOAD.*", n.onStop},
		{"GetWorkload", node + "GETWORKLOAD.*", n.onGet},
		{"QueryWorkloads", node + "QUERYWORKLOADS", n.onQuery},
		{"SetLameduck", node + "SETLAMEDUCK", n.onLameduck},
		{"PingAgent", node + n.id + ".PING", n.onPing},
		{"PingAllAgents", node + "PING", n.onPing},
	} {
		err := service.AddEndpoint(endpoint.name, micro.HandlerFunc(endpoint.handle),
			micro.WithEndpointSubject(endpoint.subject), micro.WithEndpointQueueGroup(n.id))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", endpoint.name, err)
		}
	}
	return service, nil
}

// token is the token of a subject at that place, where the rest is one token too.
func token(subject string, place int) string {
	return strings.SplitN(subject, ".", place+1)[place]
}

// reply marshals the body of an answer; nil slices and pointers become `null`, as in Go Nex.
func reply(r micro.Request, body any) {
	data, err := json.Marshal(body)
	if err == nil {
		err = r.Respond(data)
	}
	if err != nil {
		say("no reply", map[string]any{"error": err.Error()})
	}
}

func fail(r micro.Request, err error, body any) {
	var data []byte
	if body != nil {
		data, _ = json.Marshal(body)
	}
	r.Error(nexletError, err.Error(), data)
}

func (n *nexlet) onStart(r micro.Request) {
	id := token(r.Subject(), 6)
	var order agentStartWorkloadRequest
	err := json.Unmarshal(r.Data(), &order)
	if err == nil {
		var name string
		if name, err = n.start(id, order, false); err == nil {
			reply(r, startWorkloadResponse{ID: id, Name: name})
			return
		}
	}
	fail(r, err, startWorkloadResponse{ID: id, Name: order.Request.Name})
}

func (n *nexlet) start(id string, order agentStartWorkloadRequest, existing bool) (string, error) {
	w := &memWorkload{request: order.Request, started: time.Now(), state: "running"}
	if err := json.Unmarshal([]byte(order.Request.RunRequest), &w.run); err != nil {
		return "", err
	}
	if w.run.Fail != "" {
		return "", errors.New(w.run.Fail)
	}
	w.request.Name = cmp.Or(w.request.Name, "go-made-this-up")
	if w.request.Lifecycle == "function" {
		if err := n.subscribe(id, w, order.Creds); err != nil {
			return "", fmt.Errorf("trigger: %w", err)
		}
	}
	n.mu.Lock()
	n.workloads[id] = w
	n.mu.Unlock()
	say("started", map[string]any{"id": id, "existing": existing})
	n.emit("WORKLOADSTARTED", id, w)
	return w.request.Name, nil
}

// subscribe makes the trigger of a function: its id, heard with the rights of the workload.
func (n *nexlet) subscribe(id string, w *memWorkload, creds natsConnectionData) error {
	nc, err := creds.connect("nexlet_go")
	if err != nil {
		return err
	}
	_, err = nc.Subscribe(id, func(msg *nats.Msg) {
		if msg.Reply == "" {
			return
		}
		answer := nats.NewMsg(msg.Reply)
		answer.Header.Set("workload_id", id)
		answer.Header.Set("namespace", w.request.Namespace)
		if string(msg.Data) == "fail" {
			answer.Header.Set("error", "told to")
		} else {
			answer.Data = []byte(w.request.Name + " got " + string(msg.Data))
		}
		if err := nc.PublishMsg(answer); err != nil {
			say("no reply", map[string]any{"error": err.Error()})
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err == nil {
		err = nc.LastError()
	}
	if err != nil {
		nc.Close()
		return err
	}
	w.trigger = nc
	return nil
}

func (n *nexlet) emit(name, id string, w *memWorkload) {
	event, _ := json.Marshal(map[string]string{
		"id": id, "namespace": w.request.Namespace, "workload_type": n.kind,
	})
	n.nc.Publish("$NEX.FEED."+w.request.Namespace+".events."+name, event)
}

func (n *nexlet) onStop(r micro.Request) {
	id := token(r.Subject(), 5)
	var request stopWorkloadRequest
	err := json.Unmarshal(r.Data(), &request)
	if err == nil {
		err = n.stop(id, request.Namespace)
	}
	if err != nil {
		fail(r, err, stopWorkloadResponse{ID: id, Message: errNotFound.Error(), Type: n.kind})
		return
	}
	// As the Go native nexlet does: at once, whether it is dead or not.
	reply(r, stopWorkloadResponse{ID: id, Stopped: true, Type: n.kind})
}

func (n *nexlet) stop(id, namespace string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	w, ok := n.workloads[id]
	if !ok || w.request.Namespace != namespace {
		return errNotFound
	}
	if w.state == "stopping" {
		return nil
	}
	w.state = "stopping"
	if w.run.Slow {
		time.AfterFunc(slowDeath, func() { n.forget(id) })
	} else {
		go n.forget(id)
	}
	return nil
}

func (n *nexlet) forget(id string) {
	n.mu.Lock()
	w, ok := n.workloads[id]
	delete(n.workloads, id)
	n.mu.Unlock()
	if !ok {
		return
	}
	if w.trigger != nil {
		w.trigger.Drain()
	}
	say("stopped", map[string]any{"id": id})
	n.emit("WORKLOADSTOPPED", id, w)
}

// onGet is silent about workloads of others: their owner is to be heard.
func (n *nexlet) onGet(r micro.Request) {
	n.mu.Lock()
	w, ok := n.workloads[token(r.Subject(), 5)]
	n.mu.Unlock()
	if ok {
		reply(r, w.request)
	}
}

func (n *nexlet) onQuery(r micro.Request) {
	var request listWorkloadsRequest
	if err := json.Unmarshal(r.Data(), &request); err != nil {
		fail(r, err, nil)
	}
	var found []workloadSummary
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, w := range n.workloads {
		seen := request.Namespace == "system" || request.Namespace == w.request.Namespace
		wanted := len(request.Filter) == 0 || slices.Contains(request.Filter, id) ||
			slices.Contains(request.Filter, w.request.Name)
		if seen && wanted {
			found = append(found, workloadSummary{
				ID: id, Name: w.request.Name, Namespace: w.request.Namespace, Runtime: "--",
				StartTime: w.started.Format(time.RFC3339), Tags: w.request.Tags,
				Lifecycle: string(w.request.Lifecycle), State: w.state, Type: n.kind,
			})
		}
	}
	reply(r, found)
}

func (n *nexlet) onLameduck(r micro.Request) {
	var request lameduckRequest
	err := json.Unmarshal(r.Data(), &request)
	if err == nil {
		_, err = time.ParseDuration(request.Delay)
	}
	if err != nil {
		fail(r, err, nil)
		reply(r, lameduckResponse{})
		return
	}
	n.mu.Lock()
	ids := slices.Collect(maps.Keys(n.workloads))
	n.mu.Unlock()
	for _, id := range ids {
		n.forget(id)
	}
	reply(r, lameduckResponse{Success: true})
}

func (n *nexlet) onPing(r micro.Request) {
	data, _ := json.Marshal(n.summary())
	r.Respond(data, micro.WithHeaders(micro.Headers{"agentId": {n.id}}))
}
