//! The nexlet around a function host: what it tells its node, and where code comes from.

use std::time::Duration;

use ::nexlet::{Chain, Description, Nexlet, Refusal, Start, Started, Stop, StopError};
use nex_artifact::{ArtifactUri, FetchError, Kind};
use nex_protocol::{ErrorCode, Lifecycle, StartWorkloadRequest, WorkloadId, WorkloadSummary};

use crate::{
    engine::{Engine, Source},
    host::{FunctionHost, NewFunction},
    limits::DEFAULT_CONCURRENCY,
    request::FunctionRequest,
};

/// The longest file name that messages show, in bytes.
const MAX_FILE_NAME_BYTES: usize = 255;

/// What sets the functions of one engine apart from those of others.
#[derive(Clone, Copy, Debug)]
pub struct Language {
    /// The type of workload; also the extension of the names of its files.
    pub workload_type: &'static str,
    /// What the nexlet runs, for people.
    pub description: &'static str,
    /// What the start request's URI leads to, for people.
    pub code: &'static str,
    /// The most bytes that may be.
    pub max_code_bytes: u64,
    /// How errors name code that has no name at all, without the extension.
    pub unnamed: &'static str,
    /// The extensions of files with code.
    pub extensions: &'static [&'static str],
    /// `true` where an instance takes several invocations at a time, as many as `concurrency` says.
    pub is_concurrent: bool,
    /// The version of the nexlet.
    pub version: &'static str,
}

/// Runs functions on one engine.
#[derive(Debug)]
pub struct FunctionNexlet<E: Engine> {
    language: Language,
    functions: FunctionHost<E>,
}

impl<E: Engine> FunctionNexlet<E> {
    /// A nexlet that starts functions in this host.
    #[must_use]
    pub fn new(language: Language, functions: FunctionHost<E>) -> Self {
        Self {
            language,
            functions,
        }
    }
}

impl<E: Engine> Nexlet for FunctionNexlet<E> {
    fn describe(&self) -> Description {
        let language = &self.language;
        Description {
            name: format!("nex_{}", language.workload_type),
            workload_type: language.workload_type.to_owned(),
            version: language.version.to_owned(),
            description: language.description.to_owned(),
            lifecycles: vec![Lifecycle::Function],
            max_workloads: 0,
            start_request_schema: FunctionRequest::schema(language.code, language.is_concurrent),
        }
    }

    async fn start(&self, start: Start) -> Result<Started, Refusal> {
        let mut request = FunctionRequest::parse(&start.request.run_request)
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        if self.language.is_concurrent {
            request.concurrency.get_or_insert(DEFAULT_CONCURRENCY);
        } else if request.concurrency.is_some() {
            let refusal = Refusal::bad_request(self.language.refused_concurrency());
            return Err(refusal.with_hint("leave `concurrency` out"));
        }
        let uri: ArtifactUri = match request.uri.parse() {
            Ok(uri) => uri,
            Err(error) => return Err(Refusal::bad_request(Chain(&error).to_string())),
        };
        let limit = self.language.max_code_bytes;
        let read = nex_artifact::read_described(&uri, start.host.client(), limit).await;
        let (code, description) = read.map_err(|error| unreadable(&error))?;
        let source = Source {
            name: self.language.name(&uri, &start.request.name),
            uploaded_as: description.filter(|name| self.language.is_file_name(name)),
            code,
        };
        let function = NewFunction {
            start,
            request,
            source,
        };
        self.functions.start(function).await
    }

    async fn stop(&self, stop: Stop) -> Result<(), StopError> {
        self.functions.stop(&stop).await
    }

    fn list(&self) -> Vec<WorkloadSummary> {
        self.functions.list()
    }

    fn active(&self) -> usize {
        self.functions.active()
    }

    fn get(&self, id: &WorkloadId) -> Option<StartWorkloadRequest> {
        self.functions.get(id)
    }

    async fn shutdown(&self, grace: Duration) {
        self.functions.shutdown(grace).await;
    }
}

impl Language {
    /// Returns whether the description of an artifact is the name of a file with code.
    fn is_file_name(&self, description: &str) -> bool {
        let extension = description.rsplit_once('.').map(|(_, extension)| extension);
        description.len() <= MAX_FILE_NAME_BYTES
            && !description.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | ':'))
            && extension.is_some_and(|extension| self.extensions.contains(&extension))
    }

    fn refused_concurrency(&self) -> String {
        let kind = self.workload_type;
        format!("`concurrency` is not for `{kind}` functions: an instance runs one call at a time")
    }

    /// How errors name code. What is stored under its digest goes by the workload's name.
    fn name(&self, uri: &ArtifactUri, workload: &str) -> String {
        let name = uri.short_name();
        let is_digest = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let stem = match (is_digest, workload) {
            (false, _) => return name,
            (true, "") => self.unnamed,
            (true, workload) => workload,
        };
        format!("{stem}.{}", self.workload_type)
    }
}

fn unreadable(error: &FetchError) -> Refusal {
    let code = match error.kind() {
        Kind::NotFound | Kind::JetStreamOff => ErrorCode::NotFound,
        Kind::Link | Kind::Damaged => ErrorCode::BadRequest,
        Kind::TooLarge => ErrorCode::TooLarge,
        Kind::Unavailable | Kind::NoSpace => ErrorCode::Busy,
        Kind::Io => ErrorCode::Internal,
    };
    let refusal = Refusal::new(code, Chain(error).to_string());
    match error.kind() {
        Kind::Damaged => refusal.with_hint("upload it again"),
        _ => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_named_so_that_a_person_knows_it() {
        let language = Language {
            workload_type: "js",
            description: "",
            code: "",
            max_code_bytes: 0,
            unnamed: "script",
            extensions: &["js", "mjs"],
            is_concurrent: true,
            version: "",
        };
        for (description, is_name) in [
            ("bundle.mjs", true),
            ("notes", false),
            ("my app: v1.js", false),
            ("../x.js", false),
            (".tmpAbc", false),
        ] {
            assert_eq!(language.is_file_name(description), is_name, "{description}");
        }
        let digest = "ab".repeat(32);
        for (uri, workload, name) in [
            ("file:///home/me/echo.mjs".to_owned(), "web", "echo.mjs"),
            ("nats://apps/hello.js:v2".to_owned(), "web", "hello.js"),
            (format!("nats://NEXCLIFILES/{digest}"), "web", "web.js"),
            (format!("nats://NEXCLIFILES/{digest}"), "", "script.js"),
        ] {
            assert_eq!(language.name(&uri.parse().unwrap(), workload), name);
        }
    }
}
