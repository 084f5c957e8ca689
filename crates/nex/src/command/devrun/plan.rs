//! What is to be deployed, checked before anything is sent.

use std::path::{Path, PathBuf};

use nex_protocol::{Lifecycle, Tags, function::Trigger};
use serde_json::json;

use super::{detect, file::Head, source::Source};
use crate::{
    cli::{DevrunArgs, value},
    command::types,
    error::CommandError,
};

/// The longest name that is made of a file's.
const MAX_NAME_CHARS: usize = 64;

/// A deploy that makes sense as far as one can tell from here.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) file: PathBuf,
    /// The archive of the files, where it is a folder.
    pub(super) packed: Option<Vec<u8>>,
    pub(super) size_bytes: u64,
    pub(super) workload_type: String,
    pub(super) lifecycle: Lifecycle,
    pub(super) name: String,
    /// Set where a person typed the name: the deploy replaces any workload that has it.
    pub(super) is_named: bool,
    /// The file and its machine.
    pub(super) source: Source,
    pub(super) description: String,
    pub(super) tags: Tags,
    pub(super) kind: Kind,
}

/// What the start request says beside the artifact.
#[derive(Debug)]
pub(super) enum Kind {
    /// Runs when a message comes.
    Function {
        triggers: Vec<Trigger>,
        environment: Tags,
    },
    /// Runs as a process.
    Program {
        argv: Vec<String>,
        environment: Tags,
    },
}

/// The next step for a script that is too large.
const SCRIPT_HINT: &str = "a bundler with a minifier makes scripts smaller; data belongs elsewhere";
/// The next step for a module that is too large.
const MODULE_HINT: &str =
    "build it for release and without debug information, as `wasm-opt -Oz --strip-debug` does";

impl Plan {
    /// Looks at the file and the flags.
    ///
    /// # Errors
    /// When the file cannot be read, or they do not fit together.
    pub(super) fn new(args: &DevrunArgs) -> Result<Self, CommandError> {
        if args.file.is_dir() {
            return Self::of_folder(args);
        }
        let head = Head::read(&args.file)?;
        Self::with_head(args, &head)
    }

    /// The function whose files are in a folder.
    fn of_folder(args: &DevrunArgs) -> Result<Self, CommandError> {
        let folder = args.file.display();
        let packed = nexlet_js::pack(&args.file).map_err(|error| {
            let told = CommandError::failed(format!("failed to deploy the folder `{folder}`"));
            told.because(&error).hint(
                "of a folder, its `.js`, `.mjs` and `.json` files are deployed as one JavaScript function",
            )
        })?;
        let workload_type = match &args.workload_type {
            Some(named) => types::checked(named)?,
            None => nexlet_js::WORKLOAD_TYPE,
        };
        // The name of `.` is that of the folder that it is.
        let path = args.file.canonicalize().unwrap_or(args.file.clone());
        Self::of_type(
            args,
            workload_type,
            &path,
            packed.len() as u64,
            Some(packed),
        )
    }

    fn with_head(args: &DevrunArgs, head: &Head) -> Result<Self, CommandError> {
        let workload_type = match &args.workload_type {
            Some(named) => types::checked(named)?,
            None => detect::detect(&args.file, &head.bytes).ok_or_else(|| {
                let file = args.file.display();
                CommandError::usage(format!(
                    "failed to tell what `{file}` is: {}",
                    detect::KNOWN
                ))
                .hint(detect::advice(&args.file))
            })?,
        };
        Self::of_type(args, workload_type, &args.file, head.size_bytes, None)
    }

    fn of_type(
        args: &DevrunArgs,
        workload_type: &str,
        path: &Path,
        size_bytes: u64,
        packed: Option<Vec<u8>>,
    ) -> Result<Self, CommandError> {
        let lifecycle = args.lifecycle.unwrap_or(types::lifecycle(workload_type));
        Ok(Self {
            file: args.file.clone(),
            packed,
            size_bytes,
            workload_type: workload_type.to_owned(),
            lifecycle,
            name: match &args.name {
                Some(name) => types::checked_name(name)?.to_owned(),
                None => name_of(path),
            },
            is_named: args.name.is_some(),
            source: Source::of_file(&args.file, None),
            description: args.description.clone(),
            tags: value::tags(&args.tags),
            kind: kind(args, workload_type, lifecycle)?,
        })
    }

    /// Whether the file is one that nexlets of that type take.
    ///
    /// # Errors
    /// When it is larger.
    pub(super) fn check_size(&self, workload_type: &str) -> Result<(), CommandError> {
        let (limit, what, hint) = match (workload_type, &self.packed) {
            (nexlet_js::WORKLOAD_TYPE, Some(_)) => (
                nexlet_js::MAX_SCRIPT_BYTES,
                "the files of a function, with some 512 bytes each for their names,",
                SCRIPT_HINT,
            ),
            (nexlet_js::WORKLOAD_TYPE, None) => {
                (nexlet_js::MAX_SCRIPT_BYTES, "a script", SCRIPT_HINT)
            }
            (nexlet_wasm::WORKLOAD_TYPE, _) => {
                (nexlet_wasm::MAX_MODULE_BYTES, "a module", MODULE_HINT)
            }
            _ => return Ok(()),
        };
        if self.size_bytes <= limit {
            return Ok(());
        }
        let (file, size) = (self.file.display(), self.size_bytes);
        let told = format!("`{file}` has {size} bytes: {what} may have {limit}");
        Err(CommandError::failed(told).hint(hint))
    }

    /// The nexlet's start request for an uploaded artifact.
    pub(super) fn run_request(&self, uri: &str) -> String {
        match &self.kind {
            Kind::Function {
                triggers,
                environment,
            } => {
                let mut request = json!({ "uri": uri, "triggers": triggers });
                if !environment.is_empty() {
                    request["environment"] = json!(environment);
                }
                request.to_string()
            }
            Kind::Program { argv, environment } => {
                json!({ "uri": uri, "argv": argv, "environment": environment }).to_string()
            }
        }
    }
}

fn kind(
    args: &DevrunArgs,
    workload_type: &str,
    lifecycle: Lifecycle,
) -> Result<Kind, CommandError> {
    if lifecycle == Lifecycle::Function {
        let subjects = args.trigger_subjects.iter().cloned().map(Trigger::from);
        let streams = args.trigger_streams.iter().cloned().map(Trigger::Stream);
        let triggers: Vec<Trigger> = subjects.chain(streams).collect();
        if triggers.is_empty() {
            return Err(
                CommandError::usage("a function needs a subject that triggers it").hint(format!(
                    "add one: `nex devrun {} --trigger-subject SUBJECT`, or a stream: \
                     `--trigger-stream STREAM`",
                    args.file.display()
                )),
            );
        }
        if !args.argv.is_empty() {
            return Err(CommandError::usage("a function takes no arguments")
                .hint("what it is to know can be in its environment: `KEY=VALUE`"));
        }
        return Ok(Kind::Function {
            triggers,
            environment: value::pairs(&args.variables),
        });
    }
    if !args.trigger_subjects.is_empty() || !args.trigger_streams.is_empty() {
        return Err(CommandError::usage(format!(
            "a {lifecycle} of type `{workload_type}` has no trigger: `--trigger-subject` and \
             `--trigger-stream` are for functions"
        ))
        .hint("a program subscribes by itself, to the NATS at `NATS_URL` in its environment"));
    }
    Ok(Kind::Program {
        argv: args.argv.clone(),
        environment: value::pairs(&args.variables),
    })
}

/// A name made of the file's: without its extension, other characters than letters, digits, `-` and `_`
/// replaced, as long as a name may be.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let clean: String = stem
        .chars()
        .take(MAX_NAME_CHARS)
        .map(|c| match c {
            '-' | '_' => c,
            c if c.is_alphanumeric() => c,
            _ => '-',
        })
        .collect();
    let end = clean.floor_char_boundary(types::MAX_NAME_BYTES);
    match clean[..end].trim_matches('-') {
        "" => "workload".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &[&str]) -> DevrunArgs {
        let line = ["nex", "devrun"].iter().chain(line);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Devrun(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn plan(line: &[&str], head: &[u8]) -> Result<Plan, String> {
        let head = Head {
            bytes: head.to_vec(),
            size_bytes: 1,
        };
        Plan::with_head(&args(line), &head).map_err(|error| error.text())
    }

    fn json(text: &str) -> serde_json::Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_script_becomes_a_function_on_its_subjects() {
        let line = ["./echo.js", "--trigger-subject", "a", "--trigger_subject=b"];
        let plan = plan(&line, b"(s, p) =").unwrap();

        assert_eq!(
            (plan.workload_type.as_str(), plan.name.as_str()),
            ("js", "echo")
        );
        assert_eq!(plan.lifecycle, Lifecycle::Function);
        assert_eq!(
            json(&plan.run_request("nats://B/x")),
            json(r#"{"uri":"nats://B/x","triggers":[{"subject":"a"},{"subject":"b"}]}"#)
        );
    }

    #[test]
    fn a_function_may_be_on_streams_alone() {
        let line = [
            "./tally.js",
            "--trigger-stream",
            "ORDERS:orders.new",
            "--trigger-stream=LOG",
        ];
        let request = json(&plan(&line, b"").unwrap().run_request("u"));

        let triggers: Vec<_> = request["triggers"].as_array().unwrap().iter().collect();
        let named = triggers.iter().map(|it| (&it["stream"], &it["filter"]));
        assert_eq!(
            named.collect::<Vec<_>>(),
            [
                (&json(r#""ORDERS""#), &json(r#""orders.new""#)),
                (&json(r#""LOG""#), &json("null"))
            ]
        );
    }

    #[test]
    fn the_type_that_was_named_is_kept() {
        let line = ["./echo.js", "--type", "v8", "--trigger-subject", "a"];
        let plan = plan(&line, b"").unwrap();
        assert_eq!(
            (plan.workload_type.as_str(), plan.lifecycle),
            ("v8", Lifecycle::Function)
        );
    }

    #[test]
    fn an_executable_becomes_a_service_with_its_environment() {
        let plan = plan(&["./web", "A=1", "--", "-p", "80"], b"\x7fELF").unwrap();

        assert_eq!(
            (plan.workload_type.as_str(), plan.lifecycle),
            ("native", Lifecycle::Service)
        );
        assert_eq!(
            json(&plan.run_request("u")),
            json(r#"{"uri":"u","argv":["-p","80"],"environment":{"A":"1"}}"#)
        );
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_a_way_out() {
        for (line, head, wanted) in [
            (
                ["./echo.js"].as_slice(),
                b"".as_slice(),
                "hint: add one: `nex devrun ./echo.js",
            ),
            (
                &["./echo.js", "--trigger-subject", "a", "--", "x"],
                b"",
                "takes no arguments",
            ),
            (
                &["./web", "--trigger-subject", "a"],
                b"#!",
                "subscribes by itself",
            ),
            (&["./notes.txt"], b"hello", "name its type"),
            (&["./web", "--type", "a b"], b"", "invalid type `a b`"),
            (&["./web", "--name", " "], b"#!", "invalid name ` `"),
        ] {
            let text = plan(line, head).unwrap_err();
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn a_folder_becomes_a_function_with_its_files_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("my shop");
        std::fs::create_dir(&folder).unwrap();
        let line = |folder: &Path| {
            let folder = folder.to_str().unwrap().to_owned();
            args(&[&folder, "A=1", "--trigger-subject", "a"])
        };
        let error = Plan::new(&line(&folder)).unwrap_err().text();
        assert!(error.contains("none of `main.mjs`"), "{error}");
        assert!(error.contains("hint: of a folder"), "{error}");

        std::fs::write(folder.join("main.mjs"), "export default () => 1").unwrap();
        let plan = Plan::new(&line(&folder)).unwrap();

        let (kind, name) = (plan.workload_type.as_str(), plan.name.as_str());
        assert_eq!((kind, name), ("js", "my-shop"));
        assert_eq!(plan.packed, Some(nexlet_js::pack(&folder).unwrap()));
        assert_eq!(
            json(&plan.run_request("u")),
            json(r#"{"uri":"u","triggers":[{"subject":"a"}],"environment":{"A":"1"}}"#)
        );
    }

    #[test]
    fn a_name_is_made_of_the_file() {
        for (file, name) in [
            ("./echo.js", "echo"),
            ("/usr/bin/my tool.v2.bin", "my-tool-v2"),
            ("./ü", "ü"),
            ("./注文.js", "注文"),
            ("./請求.js", "請求"),
            ("./🚀.js", "workload"),
            ("./.hidden", "hidden"),
        ] {
            assert_eq!(name_of(Path::new(file)), name, "{file}");
        }
        let long = name_of(Path::new(&"注".repeat(70)));
        assert_eq!(types::checked_name(&long).unwrap().chars().count(), 42);
    }

    #[test]
    fn a_script_over_the_limit_is_named_with_its_size() {
        let limit = nexlet_js::MAX_SCRIPT_BYTES;
        let mut plan = plan(&["./big.js", "--trigger-subject", "a"], b"").unwrap();

        plan.size_bytes = limit;
        assert!(plan.check_size("js").is_ok());
        plan.size_bytes = limit + 1;
        assert!(plan.check_size("native").is_ok());
        assert!(plan.check_size("wasm").is_ok());
        let text = plan.check_size("js").unwrap_err().text();
        assert!(
            text.starts_with("error: `./big.js` has 1048577 bytes: a script may have 1048576"),
            "{text}"
        );
        plan.size_bytes = nexlet_wasm::MAX_MODULE_BYTES;
        assert!(plan.check_size("wasm").is_ok());
        plan.size_bytes += 1;
        let text = plan.check_size("wasm").unwrap_err().text();
        assert!(
            text.contains("has 16777217 bytes: a module may have 16777216"),
            "{text}"
        );
    }
}
