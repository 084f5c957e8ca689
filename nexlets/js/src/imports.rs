//! Explains why an import cannot be resolved, and where it is written.

use crate::files::{EXTENSIONS, Files};

/// Said of every import that names no file of the function.
const OWN_FILES: &str = "a function imports files of its own folder, as `./name.js`";
/// Modules of Node that are often imported by their bare names. Those with `node:` are known by that.
const NODE_MODULES: [&str; 30] = [
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "crypto",
    "dgram",
    "dns",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "querystring",
    "readline",
    "stream",
    "string_decoder",
    "timers",
    "tls",
    "url",
    "util",
    "v8",
    "worker_threads",
    "zlib",
];

/// Explains why an import in the file `from` names no file of the function. Returns the reason and the next step.
pub(crate) fn explain(files: &Files, from: &str, import: &str) -> (String, String) {
    let (why, hint) = if import.starts_with("./") || import.starts_with("../") {
        missing(files, from, import)
    } else if import.starts_with('/') {
        (
            "it is a path of the machine".to_owned(),
            OWN_FILES.to_owned(),
        )
    } else if import.starts_with("node:") || is_node_module(import) {
        (
            "modules of Node are not there".to_owned(),
            format!(
                "`fetch`, `URL`, `crypto` and others of the web are there without an import; {OWN_FILES}"
            ),
        )
    } else if import.contains(':') {
        (
            "code is not loaded from elsewhere".to_owned(),
            OWN_FILES.to_owned(),
        )
    } else if files.exist_in(from, import) {
        (
            "without `./` it is the name of a package, and there are none".to_owned(),
            format!("want `./{}`", shown(import)),
        )
    } else {
        (
            "there are no packages".to_owned(),
            format!("bundle it, as `npx esbuild --bundle --format=esm` does; {OWN_FILES}"),
        )
    };
    (format!("cannot import `{}`: {why}", shown(import)), hint)
}

fn is_node_module(import: &str) -> bool {
    let name = import.split('/').next().unwrap_or_default();
    NODE_MODULES.contains(&name)
}

/// Explains why a path leads to no file. Returns the reason and the next step.
fn missing(files: &Files, from: &str, import: &str) -> (String, String) {
    if !files.is_archive {
        return (
            "the function is this one file".to_owned(),
            "deploy its folder: `nex devrun ./folder`".to_owned(),
        );
    }
    let Some(path) = Files::join(from, import) else {
        return (
            "it leads out of the folder".to_owned(),
            OWN_FILES.to_owned(),
        );
    };
    let folder = if path.is_empty() {
        String::new()
    } else {
        format!("{path}/")
    };
    let import = import.trim_end_matches('/');
    if files.paths().any(|other| other.starts_with(&folder)) {
        let inside = files.paths().find(|other| {
            let rest = other.strip_prefix(&folder);
            rest.is_some_and(|rest| EXTENSIONS.iter().any(|ext| rest == format!("index.{ext}")))
        });
        let file = inside
            .and_then(|file| file.rsplit('/').next())
            .unwrap_or("name.js");
        return (
            "it is a folder".to_owned(),
            format!("want a file in it, as `{}/{file}`", shown(import)),
        );
    }
    let guess = EXTENSIONS
        .iter()
        .find(|ext| files.text(&format!("{path}.{ext}")).is_some());
    let no_file = format!("the function has no file `{}`", shown(&path));
    if let Some(extension) = guess {
        return (
            no_file,
            format!("want the whole name: `{}.{extension}`", shown(import)),
        );
    }
    let taken = path
        .rsplit_once('.')
        .is_some_and(|(_, ext)| EXTENSIONS.contains(&ext));
    match taken || !path.contains('.') {
        true => (no_file, OWN_FILES.to_owned()),
        false => (
            "files of a function end in `.js`, `.mjs` or `.json`, others are left out".to_owned(),
            "data can be in a `.json` file; other languages are compiled to JavaScript before"
                .to_owned(),
        ),
    }
}

/// The line and the column of an import in a text, both from 1.
pub(crate) fn place(text: &str, import: &str) -> Option<(usize, usize)> {
    let at = ['"', '\'', '`'].into_iter().find_map(|quote| {
        let quoted = format!("{quote}{import}{quote}");
        let mut all = text.match_indices(&quoted).map(|(at, _)| at);
        all.find(|at| {
            let before = text[..*at].trim_end();
            let before = before.strip_suffix('(').unwrap_or(before).trim_end();
            before.ends_with("import") || before.ends_with("from")
        })
    })?;
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[..at].matches('\n').count() + 1;
    Some((line, text[line_start..at].chars().count() + 1))
}

/// An import as a message shows it: on one line, and not all of a long one.
fn shown(import: &str) -> String {
    let printable = import.chars().map(|c| if c.is_control() { '?' } else { c });
    printable.take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_that_of_the_import_and_not_of_another_text() {
        let text = "// \"https\"\nconst a = 'https';\n  import x from 'https';\n";
        assert_eq!(place(text, "https"), Some((3, 17)));
        assert_eq!(place("await import( \"a\")", "a"), Some((1, 15)));
        assert_eq!(place("export * from`ü`", "ü"), Some((1, 14)));
        assert_eq!(place("import('a' + b)", "ab"), None);
    }
}
