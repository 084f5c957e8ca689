//! The connections on which functions listen: one per namespace where the node gives credentials
//! for that, else one per function.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use nex_nats::{ConnectError, ConnectOptions, Connection};
use nex_protocol::Namespace;
use nexlet::{Refusal, Start};
use tokio::{runtime::Handle, sync::OnceCell};

use crate::services::Buckets;

/// Shares connections. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<HashMap<Namespace, Weak<Shared>>>>);

/// A connection in use, alone or with others.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Connection,
    buckets: Arc<Buckets>,
    shared: Option<Arc<Shared>>,
}

/// The connection of a namespace. The first who needs it makes it; the last who has it ends it.
#[derive(Debug, Default)]
struct Shared {
    connection: OnceCell<(Connection, Arc<Buckets>)>,
}

impl Connections {
    /// A connection for a function, on this runtime.
    pub(crate) async fn lease(&self, start: &Start, runtime: &Handle) -> Result<Lease, Refusal> {
        let namespace = &start.request.namespace;
        let Some(data) = &start.namespace_credentials else {
            let name = format!("nex function {}", start.id);
            let options = ConnectOptions::from_data(&start.credentials, &name);
            let (connection, buckets) = connect(options, runtime).await?;
            return Ok(Lease {
                connection,
                buckets,
                shared: None,
            });
        };
        let shared = self.shared(namespace);
        let options = ConnectOptions::from_data(data, &format!("nex functions of {namespace}"));
        let connecting = || connect(options, runtime);
        let connected = shared.connection.get_or_try_init(connecting).await?;
        let (connection, buckets) = connected.clone();
        Ok(Lease {
            connection,
            buckets,
            shared: Some(shared),
        })
    }

    fn shared(&self, namespace: &Namespace) -> Arc<Shared> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, shared| shared.strong_count() > 0);
        if let Some(shared) = table.get(namespace).and_then(Weak::upgrade) {
            return shared;
        }
        let shared = Arc::new(Shared::default());
        table.insert(namespace.clone(), Arc::downgrade(&shared));
        shared
    }
}

async fn connect(
    options: ConnectOptions,
    runtime: &Handle,
) -> Result<(Connection, Arc<Buckets>), Refusal> {
    let connecting = runtime.spawn(async move {
        let connection = nex_nats::connect(&options).await?;
        // JetStream has a task of its own.
        let buckets = Buckets::new(connection.client().clone());
        Ok((connection, Arc::new(buckets)))
    });
    let connected: Result<_, ConnectError> = connecting
        .await
        .map_err(|error| Refusal::internal(&error))?;
    connected.map_err(|error| Refusal::internal(&error))
}

impl Lease {
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The buckets that were looked up on it.
    pub(crate) fn buckets(&self) -> &Arc<Buckets> {
        &self.buckets
    }

    /// Gives it back, after everything that was published is out; the last one ends it.
    pub(crate) async fn release(self) {
        let last = match self.shared {
            None => true,
            Some(shared) => Arc::into_inner(shared).is_some(),
        };
        if last {
            self.connection.close().await;
        } else if let Err(error) = nex_nats::barrier(&self.connection).await {
            tracing::warn!(%error, "replies of a stopped function may be lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nex_protocol::{NatsConnectionData, NexletId, NodeId, WorkloadId};
    use nex_testkit::NatsServer;

    async fn start(server: &NatsServer, namespace: &str, shared: bool) -> Start {
        let client = async_nats::connect(server.url()).await.unwrap();
        let request = format!(
            r#"{{"description":"","name":"f","namespace":"{namespace}","tags":null,
                "workload_lifecycle":"function","workload_type":"fake","run_request":""}}"#
        );
        let credentials = NatsConnectionData {
            nats_servers: vec![server.url().to_owned()],
            ..NatsConnectionData::default()
        };
        let node = NodeId::new(format!("N{}", "A".repeat(55))).unwrap();
        Start {
            id: WorkloadId::new("w").unwrap(),
            request: serde_json::from_str(&request).unwrap(),
            namespace_credentials: shared.then(|| credentials.clone()),
            credentials,
            existing: false,
            host: nexlet::Host::new(client, node, NexletId::new("n").unwrap()),
        }
    }

    fn number(lease: &Lease) -> u64 {
        lease.connection().client().server_info().client_id
    }

    #[tokio::test]
    async fn functions_of_one_namespace_share_a_connection() {
        let server = NatsServer::start();
        let (connections, here) = (Connections::default(), Handle::current());
        let (a, b) = (
            start(&server, "a", true).await,
            start(&server, "b", true).await,
        );

        let (first, second) =
            tokio::join!(connections.lease(&a, &here), connections.lease(&a, &here));
        let (first, second) = (first.unwrap(), second.unwrap());
        let other = connections.lease(&b, &here).await.unwrap();

        assert_eq!(number(&first), number(&second));
        assert_ne!(number(&first), number(&other));
    }

    #[tokio::test]
    async fn without_credentials_of_a_namespace_each_has_its_own() {
        let server = NatsServer::start();
        let (connections, here) = (Connections::default(), Handle::current());
        let alone = start(&server, "a", false).await;

        let first = connections.lease(&alone, &here).await.unwrap();
        let second = connections.lease(&alone, &here).await.unwrap();

        assert_ne!(number(&first), number(&second));
    }

    #[tokio::test]
    async fn the_last_one_ends_the_connection() {
        let server = NatsServer::start();
        let (connections, here) = (Connections::default(), Handle::current());
        let a = start(&server, "a", true).await;
        let (first, second) =
            tokio::join!(connections.lease(&a, &here), connections.lease(&a, &here));
        let (first, second) = (first.unwrap(), second.unwrap());
        let connection = first.connection().clone();

        first.release().await;
        nex_nats::barrier(&connection).await.unwrap();
        second.release().await;

        assert!(nex_nats::barrier(&connection).await.is_err());
        let anew = connections.lease(&a, &here).await.unwrap();
        nex_nats::barrier(anew.connection()).await.unwrap();
    }
}
