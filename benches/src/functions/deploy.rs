//! Deploys functions on a `nex up`.

use std::{fs, path::PathBuf};

use nex_client::{Client, StartSpec};
use nex_nats::ConnectOptions;
use nex_protocol::{Lifecycle, Namespace};
use nex_testkit::NexUp;
use serde_json::json;

/// Starts functions from files in the home of a `nex up`.
#[derive(Clone, Debug)]
pub(crate) struct Deployer {
    pub(crate) client: Client,
    folder: PathBuf,
}

impl Deployer {
    pub(crate) async fn connect(up: &NexUp) -> anyhow::Result<Self> {
        let connection = nex_nats::connect(&ConnectOptions::new([up.url()], "bench")).await?;
        Ok(Self {
            client: Client::new(&connection, Namespace::default_tenant()),
            folder: up.home().path().to_owned(),
        })
    }

    /// The same in another namespace.
    pub(crate) fn in_namespace(&self, namespace: Namespace) -> Self {
        Self {
            client: self.client.in_namespace(namespace),
            folder: self.folder.clone(),
        }
    }

    /// Writes a file that functions can be started from; returns its URI.
    pub(crate) fn file(&self, name: &str, code: &[u8]) -> anyhow::Result<String> {
        let path = self.folder.join(name);
        fs::write(&path, code)?;
        Ok(format!("file://{}", path.display()))
    }

    /// Starts a function that listens on this subject.
    pub(crate) async fn start(
        &self,
        workload_type: &str,
        uri: &str,
        subject: &str,
    ) -> anyhow::Result<()> {
        let name = subject.replace('.', "-");
        let trigger = json!({ "subject": subject });
        self.start_on(workload_type, uri, &name, &trigger).await
    }

    /// Starts a function with this trigger.
    pub(crate) async fn start_on(
        &self,
        workload_type: &str,
        uri: &str,
        name: &str,
        trigger: &serde_json::Value,
    ) -> anyhow::Result<()> {
        let request = json!({ "uri": uri, "triggers": [trigger] });
        let mut spec = StartSpec::new(workload_type, Lifecycle::Function, &request);
        spec.name = name.to_owned();
        self.client.start(spec).await?;
        Ok(())
    }
}
