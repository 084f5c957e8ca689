//! Configuration files: flags that are written down once.
//!
//! A key is the name of a flag, so a file is read as flags that are added to the command line before
//! it is parsed. What a flag takes, and what it needs beside it, is so the same in both places, and
//! what is asked of the environment later is asked only where neither says anything:
//!
//! ```text
//!   command line > --config > ./config.json > user's file > /etc/nex > environment > default
//! ```
//!
//! [`source`] finds and reads files, [`flags`] makes flags of their values. A file that somebody
//! named or put in a place of ours must be usable. `./config.json` may belong to anything: it counts only where each
//! of its keys is that of a flag and one of them is Nex's alone, it sets only flags of all commands and of those that
//! run nodes and nexlets, it is announced where it has a part, and what is not used of it is named in a warning.

mod flags;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
};

use clap::{
    ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use crate::{
    cli::{Cli, home, typography},
    error::CommandError,
};
pub(crate) use source::Locations;
use source::{Foreign, Layer, Read};

/// The flags that no file can set.
const NEVER: [&str; 3] = ["config", "help", "version"];

/// The flags that say who we are.
const CREDS: &[&str] = &["nats.creds_file"];
const KEYS: &[&str] = &["nats.jwt", "nats.nkey", "nats.seed"];
const USER: &[&str] = &["nats.password", "nats.user"];
const SIGNING_KEY: &[&str] = &["issuer_signing_key", "issuer_signing_key_root_account"];
const ISSUER_NKEY: &[&str] = &["issuer_nkey", "issuer_nkey_seed"];
const TLS: &[&str] = &["nats.tlsca", "nats.tlscert", "nats.tlsfirst", "nats.tlskey"];

/// Flags that say the same in different ways: one of the left side takes the place of all of the
/// right side that less important files say. A password on the command line is not to be lost to a
/// credentials file in `/etc`, nor a context's credentials to go to an address typed by hand.
const INSTEAD: [(&[&str], &[&[&str]]); 9] = [
    (
        &["nats.context"],
        &[&["nats.servers"], CREDS, KEYS, USER, TLS],
    ),
    (&["nats.servers"], &[&["nats.context"]]),
    (CREDS, &[KEYS, USER]),
    (KEYS, &[CREDS, USER]),
    (USER, &[CREDS, KEYS]),
    (SIGNING_KEY, &[ISSUER_NKEY]),
    (ISSUER_NKEY, &[SIGNING_KEY]),
    (&["nexfile"], &[&["start_request"]]),
    (&["start_request"], &[&["nexfile"]]),
];

/// What files had a part in, and what is to be said about them.
#[derive(Debug, Default)]
pub(crate) struct Used {
    /// The file that each flag is from, and the flag as it was added to the command line.
    origins: BTreeMap<String, Added>,
    /// The file of each key that another flag takes the place of.
    replaced: BTreeMap<String, String>,
    /// For standard error.
    pub(crate) notes: Vec<String>,
    /// For who looks closely.
    pub(crate) remarks: Vec<String>,
}

/// A flag that a file has added to the command line.
#[derive(Debug)]
struct Added {
    file: String,
    long: String,
    /// Text behind `=`; none of a switch.
    values: Vec<String>,
}

impl Added {
    /// Returns `true` where a text is about the flag: names it, or one of its values, in backticks.
    fn is_named_in(&self, text: &str) -> bool {
        let flag = format!("`--{}", self.long);
        let by_flag = text.match_indices(&flag).any(|(at, _)| {
            let rest = &text[at + flag.len()..];
            rest.starts_with(['`', ' ', '='])
        });
        let quoted = |value: &String| !value.is_empty() && text.contains(&format!("`{value}`"));
        by_flag || self.values.iter().any(quoted)
    }
}

impl Used {
    /// The file that a flag is from, by the flag's key.
    pub(crate) fn origin(&self, key: &str) -> Option<&str> {
        self.origins.get(key).map(|added| added.file.as_str())
    }

    /// The place of a setting, for errors: the key with its file, or the flag as it is typed.
    pub(crate) fn place(&self, key: &str, flag: &str) -> String {
        match self.origin(key) {
            Some(file) => format!("`{key}` in `{file}`"),
            None => format!("`{flag}`"),
        }
    }

    /// Adds to an error about settings of files where they stand. Who reads of a flag that nobody typed, or of a
    /// value, would look for it in vain.
    pub(crate) fn explain(&self, error: CommandError) -> CommandError {
        let text = error.without_hints();
        let about = |added: &Added| {
            !text.contains(&format!("`{}`", added.file)) && added.is_named_in(&text)
        };
        let named = self.origins.iter().filter(|(_, added)| about(added));
        named.fold(error, |error, (key, added)| {
            error.cause(format!("`{key}` is set in `{}`", added.file))
        })
    }

    /// The file that sets a flag in vain, by the flag's key: another flag takes its place.
    pub(crate) fn replaced(&self, key: &str) -> Option<&str> {
        self.replaced.get(key).map(String::as_str)
    }
}

/// Why a command line and its files cannot be used.
#[derive(Debug)]
pub(crate) enum Misunderstood {
    /// The command line, or it asks for help.
    Line(clap::Error),
    /// A file.
    File(CommandError),
    /// The characters of the command line.
    Typed(CommandError),
}

impl From<clap::Error> for Misunderstood {
    fn from(error: clap::Error) -> Self {
        Self::Line(error)
    }
}

/// Parses a command line, the program's name first, with what files say.
///
/// # Errors
/// When either cannot be used.
pub(crate) fn parse(
    args: Vec<OsString>,
    locations: &Locations,
) -> Result<(Cli, Used), Misunderstood> {
    let mut command = Cli::command();
    command.build();
    typography::check(&command, &args).map_err(Misunderstood::Typed)?;
    let (args, off) = switched_off(&command, args);
    let typed = match command.clone().try_get_matches_from(&args) {
        Ok(matches) => matches,
        // A file may have what is missing.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            let lenient = Cli::command().ignore_errors(true);
            lenient.try_get_matches_from(&args).map_err(|_| error)?
        }
        Err(error) => return Err(error.into()),
    };
    let (running, matches, path) = deepest(&command, &typed);
    let mut used = Used::default();
    let settings = if reads_files(&path, matches) {
        let home = locations.home.as_deref();
        let config = typed.get_one::<PathBuf>("config");
        let config = config.map(|path| home::expanded(path, home));
        let read = source::read(locations, config.as_deref(), &known(&command))
            .map_err(Misunderstood::File)?;
        let Read {
            layers,
            notes,
            remarks,
        } = read;
        used = Used {
            notes,
            remarks,
            ..used
        };
        let mut set = typed_keys(running, matches);
        set.extend(off);
        choose(layers, running, &path, set, &mut used)
    } else {
        Vec::new()
    };
    let mut matches = with_settings(&command, &args, settings, &mut used)?;
    let cli = Cli::from_arg_matches_mut(&mut matches);
    let mut cli = cli.map_err(|error| error.format(&mut Cli::command()))?;
    home::expand(&mut cli, locations.home.as_deref());
    Ok((cli, used))
}

/// The key that a flag has in a file.
fn key(long: &str) -> String {
    long.replace('-', "_")
}

/// Takes `--switch=false` out of a command line, which is how a person takes back what a file has
/// switched on, and makes `--switch=true` what the parser knows. Answers the keys of the former.
fn switched_off(command: &Command, args: Vec<OsString>) -> (Vec<OsString>, Vec<String>) {
    let switches = switches(command);
    let mut off = Vec::new();
    let mut open = true;
    let mut kept = Vec::with_capacity(args.len());
    for arg in args {
        open &= arg != "--";
        let switch = arg.to_str().and_then(|text| text.strip_prefix("--"));
        let switch = switch.and_then(|text| text.split_once('='));
        match switch {
            Some((long, "false")) if open && switches.contains(long) => off.push(key(long)),
            Some((long, "true")) if open && switches.contains(long) => {
                kept.push(format!("--{long}").into());
            }
            _ => kept.push(arg),
        }
    }
    (kept, off)
}

fn switches(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|arg| {
        let long = arg.get_long()?;
        matches!(arg.get_action(), ArgAction::SetTrue).then(|| long.to_owned())
    });
    let inner = command.get_subcommands().flat_map(switches);
    own.chain(inner).collect()
}

/// The keys of all flags of all commands.
fn known(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_long);
    let own = own.filter(|long| !NEVER.contains(long)).map(key);
    let inner = command.get_subcommands().flat_map(known);
    own.chain(inner).collect()
}

/// The command that a command line runs, what was typed for it, and its words.
fn deepest<'a>(
    command: &'a Command,
    matches: &'a ArgMatches,
) -> (&'a Command, &'a ArgMatches, Vec<&'a str>) {
    let (mut command, mut matches, mut path) = (command, matches, Vec::new());
    while let Some((name, inner)) = matches.subcommand()
        && let Some(found) = command.find_subcommand(name)
    {
        path.push(found.get_name());
        (command, matches) = (found, inner);
    }
    (command, matches, path)
}

/// A nexlet that a node has started is told everything by its node.
fn reads_files(path: &[&str], matches: &ArgMatches) -> bool {
    match path {
        ["completions"] => false,
        ["nexlet", "run"] => matches.get_flag("remote"),
        _ => true,
    }
}

fn typed_keys(command: &Command, matches: &ArgMatches) -> BTreeSet<String> {
    let typed = command.get_arguments().filter(|arg| {
        matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
    });
    typed.filter_map(|arg| Some(key(arg.get_long()?))).collect()
}

/// A flag as a file sets it.
struct Setting {
    key: String,
    long: String,
    /// What is added to the command line.
    words: Result<Vec<OsString>, String>,
    file: String,
    /// Whether it is from `./config.json`.
    working: bool,
}

/// Of each flag of the running command the most important setting, if none was typed.
fn choose(
    layers: Vec<Layer>,
    command: &Command,
    path: &[&str],
    mut set: BTreeSet<String>,
    used: &mut Used,
) -> Vec<Setting> {
    let flags: BTreeMap<String, &clap::Arg> = command
        .get_arguments()
        .filter_map(|arg| Some((key(arg.get_long()?), arg)))
        // A NATS that is elsewhere is none of `nex up`, which starts its own.
        .filter(|(key, _)| path != ["up"] || !key.starts_with("nats."))
        .collect();
    let mut chosen = Vec::new();
    for layer in layers {
        let mut here = Vec::new();
        let mut left_out = Vec::new();
        for (key, value) in layer.values {
            let Some(arg) = flags.get(&key) else { continue };
            if set.contains(&key) {
                continue;
            }
            if is_replaced(&key, &set) {
                used.replaced
                    .entry(key)
                    .or_insert_with(|| layer.shown.clone());
                continue;
            }
            let is_ours = layer.foreign.is_none() && (arg.is_global_set() || runs_nodes(path));
            if layer.working && !is_ours {
                left_out.push(format!("`{key}`"));
                continue;
            }
            here.push(Setting {
                long: arg.get_long().unwrap_or_default().to_owned(),
                words: flags::words(arg, &value),
                key,
                file: layer.shown.clone(),
                working: layer.working,
            });
        }
        if !left_out.is_empty() {
            used.notes.push(not_believed(
                &layer.shown,
                &left_out,
                layer.foreign.as_ref(),
                path,
            ));
        }
        set.extend(here.iter().map(|setting| setting.key.clone()));
        chosen.extend(here);
    }
    chosen
}

/// Returns `true` for commands that run nodes or nexlets: their working folder is chosen on purpose.
fn runs_nodes(path: &[&str]) -> bool {
    matches!(path, ["up"] | ["node", "up"] | ["nexlet", "run"])
}

/// The warning about keys of `./config.json` that look like flags and are not taken for such.
fn not_believed(file: &str, keys: &[String], foreign: Option<&Foreign>, path: &[&str]) -> String {
    let keys = keys.join(", ");
    let why = match foreign {
        Some(foreign) => foreign.to_string(),
        None => format!(
            "the file of a working folder sets no flag of `nex {}` alone",
            path.join(" ")
        ),
    };
    format!("warning: {keys} in `{file}` is left out: {why}; if it is meant: `--config {file}`")
}

fn is_replaced(key: &str, set: &BTreeSet<String>) -> bool {
    INSTEAD.iter().any(|(these, others)| {
        others.iter().any(|group| group.contains(&key))
            && these.iter().any(|own| set.contains(*own))
    })
}

/// Parses a command line with settings added. Writes down which were used.
fn with_settings(
    command: &Command,
    args: &[OsString],
    mut settings: Vec<Setting>,
    used: &mut Used,
) -> Result<ArgMatches, Misunderstood> {
    let unusable = |setting: &Setting, why: &str| {
        CommandError::usage(format!(
            "failed to use `{}` in `{}`",
            setting.key, setting.file
        ))
        .cause(why)
        .hint("a key is the name of a flag, and its value what the flag takes: see `nex help`")
    };
    let matches = loop {
        let mut culprit = settings.iter().enumerate().find_map(|(index, setting)| {
            let why = setting.words.as_ref().err()?;
            Some((index, why.clone()))
        });
        if culprit.is_none() {
            match command.clone().try_get_matches_from(added(args, &settings)) {
                Ok(matches) => break matches,
                Err(error) => culprit = blamed(&error, &settings),
            }
            if culprit.is_none() {
                return incomplete(command, args, &settings);
            }
        }
        let Some((index, why)) = culprit else {
            continue;
        };
        let setting = settings.remove(index);
        if !setting.working {
            return Err(Misunderstood::File(unusable(&setting, &why)));
        }
        used.notes.push(format!(
            "warning: `{}` in `{}` is left out: {why}",
            setting.key, setting.file
        ));
    };
    announce(&settings, used);
    for setting in settings {
        let words = setting.words.unwrap_or_default();
        let words = words.iter().filter_map(|word| word.to_str());
        let values = words.filter_map(|word| Some(word.split_once('=')?.1.to_owned()));
        let added = Added {
            values: values.collect(),
            file: setting.file,
            long: setting.long,
        };
        used.origins.insert(setting.key, added);
    }
    Ok(matches)
}

/// Who runs a command in somebody else's folder sees what that folder changes.
fn announce(settings: &[Setting], used: &mut Used) {
    let working = settings.iter().filter(|setting| setting.working);
    let keys: Vec<String> = working
        .map(|setting| format!("`{}`", setting.key))
        .collect();
    if let Some(setting) = settings.iter().find(|setting| setting.working) {
        let note = format!("`{}` sets {}", setting.file, keys.join(", "));
        used.notes.push(note);
    }
}

/// The command line with the words of all settings, before a `--`.
fn added(args: &[OsString], settings: &[Setting]) -> Vec<OsString> {
    let end = args.iter().position(|arg| arg == "--");
    let (before, after) = args.split_at(end.unwrap_or(args.len()));
    let words = settings
        .iter()
        .filter_map(|setting| setting.words.as_ref().ok());
    let words = words.flatten().cloned();
    before
        .iter()
        .cloned()
        .chain(words)
        .chain(after.iter().cloned())
        .collect()
}

/// The setting that an error is about, and what the parser says.
fn blamed(error: &clap::Error, settings: &[Setting]) -> Option<(usize, String)> {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(arg)) => vec![arg.clone()],
        Some(ContextValue::Strings(args)) => args.clone(),
        _ => Vec::new(),
    };
    if error.kind() == ErrorKind::MissingRequiredArgument {
        return None;
    }
    let mut named = named(ContextKind::InvalidArg);
    if let Some(ContextValue::String(prior)) = error.get(ContextKind::PriorArg) {
        named.push(prior.clone());
    }
    let index = settings.iter().position(|setting| {
        let flag = format!("--{}", setting.long);
        named.iter().any(|name| {
            let rest = name.strip_prefix(&flag);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '=', '[']))
        })
    })?;
    Some((index, words_of(error)))
}

/// What the parser says, without its advice.
fn words_of(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ");
    let end = text.find("\n\n").unwrap_or(text.len());
    text[..end].trim().to_owned()
}

/// An error that is about no single setting: the line alone has it too, or a file sets a flag
/// without another that belongs to it.
fn incomplete(
    command: &Command,
    args: &[OsString],
    settings: &[Setting],
) -> Result<ArgMatches, Misunderstood> {
    let error = command
        .clone()
        .try_get_matches_from(added(args, settings))
        .err();
    if let Err(alone) = command.clone().try_get_matches_from(args) {
        return Err(error.unwrap_or(alone).into());
    }
    let mut files: Vec<&str> = settings.iter().map(|setting| &*setting.file).collect();
    files.dedup();
    let what = error.map_or_else(String::new, |error| words_of(&error));
    Err(Misunderstood::File(
        CommandError::usage(format!(
            "failed to use the configuration of {}",
            files.join(" and ")
        ))
        .cause(what)
        .hint("some flags belong together: give the other one too, there or on the command line"),
    ))
}

#[cfg(test)]
mod tests;
