//! Where configuration files are, whether they are believed, and what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nex_protocol::text::decode;
use serde_json::{Map, Value};

use crate::{cli::typography, error::CommandError};

/// The most that is read of a file; a larger one is not for us.
const MAX_BYTES: u64 = 1024 * 1024;

/// The key by which editors find the schema of any JSON file.
const SCHEMA: &str = "$schema";

/// Keys of flags that no other program has. `./config.json` needs one: all of its other keys, `nats` and `port` say,
/// may be those of another program too.
const OWN: [&str; 15] = [
    "agent_restart_limit",
    "allow_remote_agent_registration",
    "auction_ttl",
    "disable_js_start",
    "disable_native_start",
    "disable_wasm_start",
    "issuer_nkey",
    "issuer_nkey_seed",
    "issuer_signing_key",
    "issuer_signing_key_root_account",
    "nexus",
    "node_name",
    "node_seed",
    "node_xkey_seed",
    "show_workload_logs",
];

/// The bits of a file's mode by which others than its owner may write it.
const OTHERS_WRITE: u32 = 0o022;

/// Where files are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Locations {
    /// The machine's.
    pub(crate) system: PathBuf,
    /// The user's, where there is a home.
    pub(crate) user: Option<PathBuf>,
    /// That of the working folder.
    pub(crate) working: PathBuf,
    /// The folder that `~` stands for, where there is a home.
    pub(crate) home: Option<PathBuf>,
}

/// What one file says.
#[derive(Debug)]
pub(super) struct Layer {
    /// The file, as people know it.
    pub(super) shown: String,
    /// Whether it is that of the working folder.
    pub(super) working: bool,
    /// By key; only keys of flags.
    pub(super) values: BTreeMap<String, Value>,
    /// The sign that it is the file of another program, where it is that of the working folder.
    pub(super) foreign: Option<Foreign>,
}

/// A sign that a file belongs to another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// A key that is the name of no flag, at any depth.
    UnknownKey(String),
    /// Every key is the name of a flag, and may be that of another program's setting.
    NoOwnKey,
}

impl Foreign {
    /// The sign in a file with these values and unknown keys, if there is one.
    fn of(values: &BTreeMap<String, Value>, unknown: &[String]) -> Option<Self> {
        if let Some(key) = unknown.iter().find(|key| *key != SCHEMA) {
            return Some(Self::UnknownKey(key.clone()));
        }
        // None of these flags takes a list or a map.
        let is_flag = |value: &Value| !value.is_object() && !value.is_array();
        let has_own = OWN.iter().any(|own| values.get(*own).is_some_and(is_flag));
        (!has_own).then_some(Self::NoOwnKey)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(key) => write!(
                f,
                "its key `{key}` is no flag, so the file belongs to another program"
            ),
            Self::NoOwnKey => f.write_str(
                "none of its keys is one of Nex alone, such as `nexus`, so the file may belong to another program",
            ),
        }
    }
}

/// What all files say, the most important first.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) layers: Vec<Layer>,
    /// For standard error.
    pub(super) notes: Vec<String>,
    /// For who looks closely.
    pub(super) remarks: Vec<String>,
}

/// Reads all files that are there. `known` are the keys of all flags.
///
/// # Errors
/// When one of ours is no JSON object, or `config`, which somebody has named, cannot be read.
pub(super) fn read(
    locations: &Locations,
    config: Option<&Path>,
    known: &BTreeSet<String>,
) -> Result<Read, CommandError> {
    let mut read = Read::default();
    if let Some(path) = config {
        let text = text(File::open(path)).map_err(|error| {
            unusable(path, &error.to_string()).hint("`--config` names a JSON file")
        })?;
        read.take(path, &text, known)?;
    }
    read.working_folder(&locations.working, known);
    for path in locations.user.iter().chain([&locations.system]) {
        match text(File::open(path)) {
            Ok(text) => read.take(path, &text, known)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // One with the seeds of a node is for that node's user alone.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let remark = format!("`{}` is not for us to read", path.display());
                read.remarks.push(remark);
            }
            Err(error) => return Err(unusable(path, &error.to_string())),
        }
    }
    Ok(read)
}

impl Read {
    fn take(
        &mut self,
        path: &Path,
        text: &str,
        known: &BTreeSet<String>,
    ) -> Result<(), CommandError> {
        let object = parse(text).map_err(|why| {
            unusable(path, &why)
                .hint("want a JSON object whose keys are names of flags: {\"node_name\":\"n1\"}")
        })?;
        self.add(path.display().to_string(), false, object, known);
        Ok(())
    }

    /// Takes the file of the working folder, which may belong to anything and anybody.
    fn working_folder(&mut self, path: &Path, known: &BTreeSet<String>) {
        let shown = "./config.json".to_owned();
        // Looked at before it is opened: opening a pipe waits for its writer.
        if !path.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return;
        }
        let (text, trusted) = match File::open(path).and_then(|file| {
            let trusted = is_trusted(&file)?;
            Ok((text(Ok(file))?, trusted))
        }) {
            Ok(read) => read,
            Err(error) => {
                let note = format!("warning: ignored `{shown}`: {error}");
                return self.notes.push(note);
            }
        };
        match parse(&text) {
            Ok(object) if trusted => self.add(shown, true, object, known),
            Ok(object) => {
                let (mut values, mut unknown) = (BTreeMap::new(), Vec::new());
                flatten("", object, known, &mut values, &mut unknown);
                if Foreign::of(&values, &unknown).is_none() {
                    self.notes.push(format!(
                        "warning: ignored `{shown}`: it belongs to somebody else, or others may \
                         write it; if you trust it: `chmod go-w {shown}`, or `--config {shown}`"
                    ));
                }
            }
            Err(why) => self
                .notes
                .push(format!("warning: ignored `{shown}`: {why}")),
        }
    }

    fn add(
        &mut self,
        shown: String,
        working: bool,
        object: Map<String, Value>,
        known: &BTreeSet<String>,
    ) {
        let mut values = BTreeMap::new();
        let mut unknown = Vec::new();
        flatten("", object, known, &mut values, &mut unknown);
        let foreign = Foreign::of(&values, &unknown).filter(|_| working);
        let remarks = unknown
            .into_iter()
            .map(|key| format!("`{key}` in `{shown}` is the name of no flag"));
        self.remarks.extend(remarks);
        self.layers.push(Layer {
            shown,
            working,
            values,
            foreign,
        });
    }
}

/// Whether nobody but the user and the system's administrator can have written a file.
fn is_trusted(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    let owner = metadata.uid();
    let own = owner == rustix::process::geteuid().as_raw() || owner == 0;
    Ok(own && metadata.mode() & OTHERS_WRITE == 0)
}

fn text(file: io::Result<File>) -> io::Result<String> {
    let mut bytes = Vec::new();
    let read = file?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if read as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(decode(bytes)?)
}

fn parse(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("line 1, column 1: no JSON object".to_owned()),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let what = error.to_string();
            // The place stands first, as compilers have it.
            let end = what.rfind(" at line ").unwrap_or(what.len());
            let why = format!("line {line}, column {column}: {}", &what[..end]);
            Err(match typography::note(text, line, column) {
                Some(note) => format!("{why}; {note}"),
                None => why,
            })
        }
    }
}

fn unusable(path: &Path, why: &str) -> CommandError {
    let path = path.display();
    CommandError::usage(format!("failed to read the configuration file `{path}`")).cause(why)
}

/// Sorts the members of an object into values of flags and unknown keys. A dot in the name of a flag
/// is a dot in a key, or a nested object. Of two ways to write a key the plainest wins.
fn flatten(
    prefix: &str,
    object: Map<String, Value>,
    known: &BTreeSet<String>,
    values: &mut BTreeMap<String, Value>,
    unknown: &mut Vec<String>,
) {
    let mut members: Vec<(String, Value)> = object.into_iter().collect();
    // Capital letters come before `_`, and a name before the name with a dot: what is taken last
    // stays.
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (key, value) in members {
        let name = format!("{prefix}{}", snake(&key));
        if known.contains(&name) {
            if !value.is_null() {
                values.insert(name, value);
            }
            continue;
        }
        let inner = format!("{name}.");
        match value {
            Value::Object(object) if known.iter().any(|key| key.starts_with(&inner)) => {
                flatten(&inner, object, known, values, unknown);
            }
            _ => unknown.push(format!("{prefix}{key}")),
        }
    }
}

/// `nodeName` and `node-name` as `node_name`.
fn snake(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(if c == '-' {
            '_'
        } else {
            c.to_ascii_lowercase()
        });
    }
    name
}
