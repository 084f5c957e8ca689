//! `REGISTER` and `RREGISTER`: nexlets introduce themselves.

use std::{collections::BTreeMap, time::Instant};

use nex_protocol::{
    NatsConnectionData, NexletId, WorkloadId,
    registration::{RegisterRemoteResponse, RegisterRequest, RegisterResponse},
    workload::NexletStartWorkloadRequest,
};
use nex_schema::{Schema, SchemaError};
use serde_json::{Map, Value};
use tracing::info;

use super::answer::{Answer, Refusal, decode};
use crate::{
    nexlet::Registration, phase::Phase, remote, restore, shared::Shared, workloads::Registrant,
};

/// Takes a nexlet in. One that is known already, a restarted one, takes its old place.
///
/// The node hears the heartbeats of all ids, so that none is lost that follows the answer.
pub(super) async fn nexlet(shared: &Shared, id: NexletId, body: &[u8]) -> Result<Answer, Refusal> {
    let request: RegisterRequest = decode(body, "register local agent request")?;
    if request.register_type.is_empty() {
        return Err(Refusal::bad_request("register_type is required"));
    }
    refuse_while_stopping(shared)?;
    if !shared.registry.has_room(&id) {
        return Err(Refusal::busy("the node has as many nexlets as it takes"));
    }
    let schema = Schema::compile(&request.start_request_schema).map_err(|error| {
        let text = error.to_string();
        match error {
            SchemaError::NoJson(source) => Refusal::bad_request(text).detail(source.to_string()),
            SchemaError::NoSchema(_) => Refusal::internal(text, &error),
        }
    })?;
    // Before the registration: a nexlet without credentials must not stay in the books.
    let connection_data = shared
        .minter
        .nexlet(&shared.id, &shared.nexus, &id, &request.register_type)
        .map_err(|error| Refusal::internal("failed to mint nats connection", &error))?;
    info!(nexlet = %id, workload_type = request.register_type, "nexlet registered");
    let registration = Registration {
        id: id.clone(),
        request,
        schema,
    };
    remote::keep(shared, &id, &registration.request).await;
    let existing_state = take_up(shared, &id, &registration.request.register_type)?;
    shared.registry.register(Instant::now(), registration);
    Answer::json(&RegisterResponse {
        connection_data,
        existing_state,
        message: String::new(),
        node_id: shared.id.to_string(),
        success: true,
    })
}

/// What the nexlet is to take up again. What does not fit into the answer is given to it when it
/// is ready.
fn take_up(
    shared: &Shared,
    id: &NexletId,
    workload_type: &str,
) -> Result<BTreeMap<WorkloadId, NexletStartWorkloadRequest>, Refusal> {
    let now = Instant::now();
    let registrant = Registrant {
        id,
        workload_type,
        planned: shared.registry.is_planned(id),
    };
    let records = shared.workloads.hand_over(now, registrant);
    if records.is_empty() {
        return Ok(BTreeMap::new());
    }
    let workloads = records.len();
    let page = restore::page(shared, records).map_err(|error| {
        shared.workloads.nexlet_ended(id);
        Refusal::internal("failed to mint workload nats connection", &error)
    })?;
    info!(nexlet = %id, workloads, in_the_answer = page.existing.len(), "nexlet takes up again");
    shared.workloads.due(now, page.rest);
    Ok(page.existing)
}

/// Adds what a Go nexlet reads, which does not look at error headers here.
pub(super) fn refusal(refusal: Refusal) -> Refusal {
    let response = RegisterResponse {
        connection_data: NatsConnectionData::default(),
        existing_state: BTreeMap::new(),
        message: refusal.message().to_owned(),
        node_id: String::new(),
        success: false,
    };
    match serde_json::to_value(response) {
        Ok(Value::Object(fields)) => refusal.fields(fields),
        _ => refusal,
    }
}

/// Gives a remote nexlet an id and what it needs to register. Nothing is remembered of it until it registers.
pub(super) fn remote(shared: &Shared, body: &[u8]) -> Result<Answer, Refusal> {
    decode::<Option<Map<String, Value>>>(body, "register remote agent request")?;
    refuse_while_stopping(shared)?;
    let assigned_agent_id = NexletId::mint();
    let registration_creds = shared
        .minter
        .registration(&shared.id, &assigned_agent_id)
        .map_err(|error| Refusal::internal("failed to mint register", &error))?;
    Answer::json(&RegisterRemoteResponse {
        assigned_agent_id,
        registration_creds,
        respond_to: shared.id.clone(),
    })
}

fn refuse_while_stopping(shared: &Shared) -> Result<(), Refusal> {
    if shared.phase() == Phase::Stopping {
        return Err(Refusal::busy("the node is stopping"));
    }
    Ok(())
}
