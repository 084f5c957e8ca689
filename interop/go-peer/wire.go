package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// decodeInto fills target from data, and refuses a document in which a key is missing. Keys are
// matched in exact case, as the decoders of Go Nex do; a null document is the zero value.
func decodeInto(data []byte, target any, keys ...string) error {
	if string(data) != "null" {
		var found map[string]json.RawMessage
		if err := json.Unmarshal(data, &found); err != nil {
			return err
		}
		for _, key := range keys {
			if _, ok := found[key]; !ok {
				return fmt.Errorf("field %s in %T: required", key, target)
			}
		}
	}
	return json.Unmarshal(data, target)
}

// oneOf decodes a string that must be one of the listed ones.
func oneOf(data []byte, target *string, allowed ...string) error {
	if err := json.Unmarshal(data, target); err != nil {
		return err
	}
	if !slices.Contains(allowed, *target) {
		return fmt.Errorf("invalid value %q, expected one of %q", *target, allowed)
	}
	return nil
}

type lifecycle string

func (l *lifecycle) UnmarshalJSON(data []byte) error {
	return oneOf(data, (*string)(l), "service", "job", "function")
}

type workloadState string

func (s *workloadState) UnmarshalJSON(data []byte) error {
	return oneOf(data, (*string)(s), "starting", "running", "warm", "stopping", "stopped", "error")
}

type nodeState string

func (s *nodeState) UnmarshalJSON(data []byte) error {
	return oneOf(data, (*string)(s), "starting", "running", "lameduck", "stopping", "error")
}

type auctionRequest struct {
	AgentType string            `json:"agent_type"`
	AuctionID string            `json:"auction_id"`
	Tags      map[string]string `json:"tags"`
}

type auctionResponse struct {
	BidderID            string      `json:"bidder_id"`
	StartRequestSchema  string      `json:"start_request_schema"`
	SupportedLifecycles []lifecycle `json:"supported_lifecycles"`
	XKey                string      `json:"xkey"`
}

func (r *auctionResponse) UnmarshalJSON(data []byte) error {
	type plain auctionResponse
	return decodeInto(data, (*plain)(r), "bidder_id", "start_request_schema", "supported_lifecycles", "xkey")
}

type startWorkloadRequest struct {
	Description string            `json:"description"`
	Metadata    map[string]any    `json:"metadata,omitempty"`
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Reference   string            `json:"reference,omitempty"`
	RunRequest  string            `json:"run_request"`
	Tags        map[string]string `json:"tags"`
	Lifecycle   lifecycle         `json:"workload_lifecycle"`
	Type        string            `json:"workload_type"`
}

func (r *startWorkloadRequest) UnmarshalJSON(data []byte) error {
	type plain startWorkloadRequest
	return decodeInto(data, (*plain)(r), "description", "name", "namespace", "run_request", "tags",
		"workload_lifecycle", "workload_type")
}

type startWorkloadResponse struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (r *startWorkloadResponse) UnmarshalJSON(data []byte) error {
	type plain startWorkloadResponse
	return decodeInto(data, (*plain)(r), "id", "name")
}

type stopWorkloadRequest struct {
	Namespace string `json:"namespace"`
}

type stopWorkloadResponse struct {
	ID      string `json:"id"`
	Message string `json:"message"`
	Stopped bool   `json:"stopped"`
	Type    string `json:"workload_type"`
}

func (r *stopWorkloadResponse) UnmarshalJSON(data []byte) error {
	type plain stopWorkloadResponse
	return decodeInto(data, (*plain)(r), "id", "message", "stopped", "workload_type")
}

type cloneWorkloadRequest struct {
	Namespace     string `json:"namespace"`
	NewTargetXKey string `json:"new_target_xkey"`
}

type nodePingRequest struct {
	Filter map[string]string `json:"filter"`
}

type nodePingResponse struct {
	AgentCount int               `json:"agent_count"`
	NodeID     string            `json:"node_id"`
	StartTime  time.Time         `json:"start_time"`
	State      nodeState         `json:"state"`
	Tags       map[string]string `json:"tags"`
	Version    string            `json:"version"`
	XKey       string            `json:"xkey"`
}

func (r *nodePingResponse) UnmarshalJSON(data []byte) error {
	type plain nodePingResponse
	return decodeInto(data, (*plain)(r), "agent_count", "node_id", "start_time", "state", "tags", "version", "xkey")
}

type agentSummary struct {
	Name                string    `json:"name"`
	StartTime           time.Time `json:"start_time"`
	State               string    `json:"state"`
	SupportedLifecycles string    `json:"supported_lifecycles"`
	Type                string    `json:"type"`
	Version             string    `json:"version"`
	WorkloadCount       int       `json:"workload_count"`
}

func (r *agentSummary) UnmarshalJSON(data []byte) error {
	type plain agentSummary
	return decodeInto(data, (*plain)(r), "name", "start_time", "state", "supported_lifecycles", "type",
		"version", "workload_count")
}

type nodeAgentSummary struct {
	Health        string       `json:"agent_health"`
	Stoplight     string       `json:"agent_health_stoplight"`
	ID            string       `json:"agent_id"`
	LastHeartbeat time.Time    `json:"agent_last_heartbeat_time"`
	Summary       agentSummary `json:"agent_summary"`
}

func (r *nodeAgentSummary) UnmarshalJSON(data []byte) error {
	type plain nodeAgentSummary
	return decodeInto(data, (*plain)(r), "agent_health", "agent_health_stoplight", "agent_id",
		"agent_last_heartbeat_time", "agent_summary")
}

type nodeInfoResponse struct {
	Agents  []nodeAgentSummary `json:"node_agent_summaries,omitempty"`
	NodeID  string             `json:"node_id"`
	Tags    map[string]string  `json:"tags"`
	Uptime  string             `json:"uptime"`
	Version string             `json:"version"`
	XKey    string             `json:"xkey"`
}

func (r *nodeInfoResponse) UnmarshalJSON(data []byte) error {
	type plain nodeInfoResponse
	if err := decodeInto(data, (*plain)(r), "node_id", "tags", "uptime", "version", "xkey"); err != nil {
		return err
	}
	_, err := time.ParseDuration(r.Uptime)
	return err
}

type lameduckRequest struct {
	Delay string            `json:"delay"`
	Tag   map[string]string `json:"tag,omitempty"`
}

type lameduckResponse struct {
	Message string `json:"message"`
	Success bool   `json:"success"`
}

func (r *lameduckResponse) UnmarshalJSON(data []byte) error {
	type plain lameduckResponse
	return decodeInto(data, (*plain)(r), "message", "success")
}

type listWorkloadsRequest struct {
	Filter    []string `json:"filter"`
	Namespace string   `json:"namespace"`
}

type workloadSummary struct {
	ID        string            `json:"id"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Name      string            `json:"name"`
	Namespace string            `json:"namespace,omitempty"`
	Runtime   string            `json:"runtime"`
	StartTime string            `json:"start_time"`
	Tags      map[string]string `json:"tags"`
	Lifecycle string            `json:"workload_lifecycle"`
	State     workloadState     `json:"workload_state"`
	Type      string            `json:"workload_type"`
}

func (r *workloadSummary) UnmarshalJSON(data []byte) error {
	type plain workloadSummary
	return decodeInto(data, (*plain)(r), "id", "name", "runtime", "start_time", "tags", "workload_lifecycle",
		"workload_state", "workload_type")
}
