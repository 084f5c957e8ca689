//! What a process gets to see: this, and nothing of the node's. Pure.

use std::{collections::BTreeMap, path::Path};

use data_encoding::BASE64;
use nex_protocol::{NatsConnectionData, StartWorkloadRequest, WorkloadId};

use crate::request::StartRequest;

/// Where programs are found, where the request does not say.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The complete environment of a process.
///
/// `home` is its working folder; `creds` the file with its credentials, where it has a JWT. What
/// the request sets goes before ours, but for `NEX_WORKLOAD_…`, which no request may set.
pub(crate) fn environment(
    id: &WorkloadId,
    request: &StartWorkloadRequest,
    run: &StartRequest,
    credentials: &NatsConnectionData,
    home: &Path,
    creds: Option<&Path>,
) -> BTreeMap<String, String> {
    let servers = credentials.nats_servers.join(",");
    let text = |path: &Path| path.display().to_string();
    let mut environment: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        environment.insert(name.to_owned(), value.to_owned());
    };

    set("PATH", PATH);
    set("HOME", &text(home));
    set("TMPDIR", &text(&home.join("tmp")));
    set("NATS_URL", &servers);
    // By these names the programs of NATS know them.
    match creds {
        Some(creds) => set("NATS_CREDS", &text(creds)),
        None if credentials.nats_user_name.is_empty() => {}
        None => {
            set("NATS_USER", &credentials.nats_user_name);
            set("NATS_PASSWORD", &credentials.nats_user_password);
        }
    }
    for (name, path) in [
        ("NATS_CA", &credentials.tls_ca),
        ("NATS_CERT", &credentials.tls_cert),
        ("NATS_KEY", &credentials.tls_key),
    ] {
        if !path.is_empty() {
            set(name, path);
        }
    }

    for (name, value) in &run.environment {
        set(name, value);
    }

    set("NEX_WORKLOAD_ID", id.as_str());
    set("NEX_WORKLOAD_NAME", &request.name);
    set("NEX_WORKLOAD_NAMESPACE", request.namespace.as_str());
    // As in Go, where the one with this name holds the seed.
    set("NEX_WORKLOAD_NATS_SERVERS", &servers);
    set("NEX_WORKLOAD_NATS_NKEY", &credentials.nats_user_seed);
    set(
        "NEX_WORKLOAD_NATS_B64_JWT",
        &BASE64.encode(credentials.nats_user_jwt.as_bytes()),
    );
    environment
}

#[cfg(test)]
mod tests {
    use super::*;
    use nex_protocol::{Lifecycle, Namespace, Tags};

    fn request() -> StartWorkloadRequest {
        StartWorkloadRequest {
            description: String::new(),
            metadata: serde_json::Map::new(),
            name: "web".into(),
            namespace: Namespace::default_tenant(),
            reference: String::new(),
            run_request: String::new(),
            tags: Tags::new(),
            workload_lifecycle: Lifecycle::Service,
            workload_type: "native".into(),
        }
    }

    fn built(run: &str, credentials: &NatsConnectionData, creds: Option<&Path>) -> Vec<String> {
        let id = WorkloadId::new("w1").unwrap();
        let run = StartRequest::parse(run).unwrap();
        let environment = environment(
            &id,
            &request(),
            &run,
            credentials,
            Path::new("/data/w1"),
            creds,
        );
        environment
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    #[test]
    fn it_is_exactly_this() {
        let credentials = NatsConnectionData {
            nats_servers: vec!["nats://a:1".into(), "nats://b:2".into()],
            nats_user_jwt: "jwt".into(),
            nats_user_seed: "SEED".into(),
            ..NatsConnectionData::default()
        };
        let run = r#"{"uri":"file:///a","environment":{"LEVEL":"info"}}"#;

        assert_eq!(
            built(run, &credentials, Some(Path::new("/data/w1/.nex/creds"))),
            [
                "HOME=/data/w1",
                "LEVEL=info",
                "NATS_CREDS=/data/w1/.nex/creds",
                "NATS_URL=nats://a:1,nats://b:2",
                "NEX_WORKLOAD_ID=w1",
                "NEX_WORKLOAD_NAME=web",
                "NEX_WORKLOAD_NAMESPACE=default",
                "NEX_WORKLOAD_NATS_B64_JWT=and0",
                "NEX_WORKLOAD_NATS_NKEY=SEED",
                "NEX_WORKLOAD_NATS_SERVERS=nats://a:1,nats://b:2",
                "PATH=/usr/local/bin:/usr/bin:/bin",
                "TMPDIR=/data/w1/tmp",
            ]
        );
    }

    #[test]
    fn a_request_may_choose_its_path_and_its_nats() {
        let run = r#"{"uri":"file:///a","environment":{"PATH":"/opt","NATS_URL":"nats://c:3"}}"#;
        let built = built(run, &NatsConnectionData::default(), None);
        assert!(built.contains(&"PATH=/opt".to_owned()), "{built:?}");
        assert!(
            built.contains(&"NATS_URL=nats://c:3".to_owned()),
            "{built:?}"
        );
    }
}
