//! The files of a function: one, or those of a folder in an archive.
//!
//! The archive is a tar as `tar cf app.tar -C folder .` makes it, without compression. What is in it
//! is a path and text, nothing else: no links, no devices, nothing outside of it.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use nex_functions::{Failure, FailureKind};
use nex_protocol::text::{NotUtf8, decode};
use tar::{Archive, Builder, EntryType, Header};

/// The most files of a function.
pub const MAX_FILES: usize = 1000;
/// The longest path of a file in an archive, in bytes.
const MAX_PATH_BYTES: usize = 255;
/// The files that a function can begin with; the first that is there is taken.
const ENTRIES: [&str; 4] = ["main.mjs", "main.js", "index.mjs", "index.js"];
/// What is taken of a folder.
pub(crate) const EXTENSIONS: [&str; 3] = ["js", "mjs", "json"];

/// The text of the files, by path. Paths have no `.` and `..` in them.
#[derive(Debug)]
pub(crate) struct Files {
    texts: BTreeMap<String, String>,
    entry: String,
    /// Whether they came as an archive.
    pub(crate) is_archive: bool,
}

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It cannot be read.
    #[error("failed to read {path}")]
    Read {
        /// What cannot be read.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A function could not begin anywhere.
    #[error("the folder has none of `main.mjs`, `main.js`, `index.mjs` and `index.js`")]
    NoEntry,
    /// It has too much in it.
    #[error("the folder has more than {MAX_FILES} files")]
    TooMany,
    /// A name that no import could have.
    #[error("the name of {0} is too long, or no UTF-8")]
    Name(PathBuf),
    /// The archive cannot be made.
    #[error("failed to pack the folder")]
    Pack(#[source] io::Error),
}

impl Files {
    /// One file.
    pub(crate) fn one(name: String, text: String) -> Self {
        Self {
            entry: name.clone(),
            texts: BTreeMap::from([(name, text)]),
            is_archive: false,
        }
    }

    /// Whether these bytes are an archive.
    pub(crate) fn is_archive(bytes: &[u8]) -> bool {
        bytes.get(257..262) == Some(b"ustar")
    }

    /// The files of an archive.
    pub(crate) fn of_archive(name: &str, bytes: &[u8]) -> Result<Self, Failure> {
        let invalid = |problem: String| {
            let text = format!("the archive {name} cannot be used: {problem}");
            Failure::new(FailureKind::Invalid, text)
        };
        let broken = |error: io::Error| invalid(error.to_string());
        let mut texts = BTreeMap::new();
        let mut archive = Archive::new(bytes);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let path = entry.path().map_err(broken)?.into_owned();
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {}
                // What tar adds beside the files themselves.
                EntryType::Directory | EntryType::XGlobalHeader => continue,
                _ => return Err(invalid(format!("`{}` is no file", path.display()))),
            }
            let Some(key) = clean(&path) else {
                let problem = format!("`{}` leads out of it, or is no name", path.display());
                return Err(invalid(problem));
            };
            if texts.len() >= MAX_FILES {
                return Err(invalid(format!("it has more than {MAX_FILES} files")));
            }
            let mut text = Vec::new();
            // The archive is in memory and has a limit, so this has too.
            entry.read_to_end(&mut text).map_err(broken)?;
            if is_source(&path) {
                texts.insert(key.clone(), checked(&key, text)?);
            }
        }
        let entry = ENTRIES.iter().find(|entry| texts.contains_key(**entry));
        let entry =
            entry.ok_or_else(|| invalid(format!("it has none of `{}`", ENTRIES.join("`, `"))))?;
        Ok(Self {
            entry: (*entry).to_owned(),
            texts,
            is_archive: true,
        })
    }

    /// The path of the file that is run.
    pub(crate) fn entry(&self) -> &str {
        &self.entry
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> + Clone {
        self.texts.keys().map(String::as_str)
    }

    /// The file that an import in `from` means: `./x.js` and `../x.js`, as they are written.
    pub(crate) fn resolve(&self, from: &str, import: &str) -> Option<String> {
        if !import.starts_with("./") && !import.starts_with("../") {
            return None;
        }
        let path = Self::join(from, import)?;
        self.texts.contains_key(&path).then_some(path)
    }

    /// Returns whether an import would mean a file if `./` stood before it.
    pub(crate) fn exist_in(&self, from: &str, import: &str) -> bool {
        self.resolve(from, &format!("./{import}")).is_some()
    }

    /// The path that an import in `from` leads to; `None` where it leads out of the folder.
    pub(crate) fn join(from: &str, import: &str) -> Option<String> {
        let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        for part in import.split('/') {
            match part {
                "." | "" => {}
                ".." => {
                    parts.pop()?;
                }
                part => parts.push(part),
            }
        }
        Some(parts.join("/"))
    }
}

/// A file that is text, without zero bytes.
pub(crate) fn checked(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    let invalid = |problem: String| Failure::new(FailureKind::Invalid, problem);
    let text = decode(bytes).map_err(|error| {
        let problem = match error {
            NotUtf8::Utf16 => error.to_string(),
            NotUtf8::Invalid { at, .. } => format!("byte {at} is invalid"),
        };
        invalid(format!("{name} is no UTF-8 text: {problem}"))
    })?;
    match text.find('\0') {
        Some(at) => Err(invalid(format!("{name} is no script: byte {at} is zero"))),
        None => Ok(text),
    }
}

/// A path within an archive, without `.`; `None` for what leads out of it.
fn clean(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let path = parts.join("/");
    let named = !path.is_empty() && path.len() <= MAX_PATH_BYTES;
    (named && !path.contains(['\0', '\\'])).then_some(path)
}

fn is_source(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// Packs the `.js`, `.mjs` and `.json` files of a folder and those below it. What begins with a dot
/// and `node_modules` is left out. The same files are the same bytes.
///
/// # Errors
/// [`PackError`].
pub fn pack(folder: &Path) -> Result<Vec<u8>, PackError> {
    let mut files = BTreeMap::new();
    gather(folder, folder, &mut files)?;
    if !ENTRIES.iter().any(|entry| files.contains_key(*entry)) {
        return Err(PackError::NoEntry);
    }
    let mut builder = Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, path, bytes.as_slice())
            .map_err(PackError::Pack)?;
    }
    builder.into_inner().map_err(PackError::Pack)
}

fn gather(
    root: &Path,
    folder: &Path,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), PackError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| PackError::Read { path, source }
    };
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let entry = entry.map_err(unreadable(folder))?;
        let path = entry.path();
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") || name == "node_modules" {
            continue;
        }
        // Links are not followed: they could lead anywhere.
        let kind = entry.file_type().map_err(unreadable(&path))?;
        if kind.is_dir() {
            gather(root, &path, files)?;
        } else if kind.is_file() && is_source(&path) {
            if files.len() >= MAX_FILES {
                return Err(PackError::TooMany);
            }
            let key = path.strip_prefix(root).ok().and_then(clean);
            let key = key.ok_or_else(|| PackError::Name(path.clone()))?;
            let bytes = std::fs::read(&path).map_err(unreadable(&path))?;
            files.insert(key, bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, text) in entries {
            let mut header = Header::new_ustar();
            // Not through the builder, which refuses what a hostile archive may have.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(text.len() as u64);
            header.set_entry_type(EntryType::Regular);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn refused(entries: &[(&str, &str)]) -> String {
        let failure = Files::of_archive("a.tar", &archive(entries)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid);
        failure.message
    }

    #[test]
    fn a_folder_comes_out_of_its_archive_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("main.mjs", "one");
        write("lib/deep/two.js", "two");
        write("data.json", "{}");
        for left_out in [".git/x.js", "node_modules/x.js", "README.md"] {
            write(left_out, "no");
        }

        let bytes = pack(dir.path()).unwrap();
        let files = Files::of_archive("a.tar", &bytes).unwrap();

        assert!(Files::is_archive(&bytes));
        assert_eq!(bytes, pack(dir.path()).unwrap());
        assert_eq!(files.entry(), "main.mjs");
        let paths: Vec<_> = files.paths().collect();
        assert_eq!(paths, ["data.json", "lib/deep/two.js", "main.mjs"]);
        assert_eq!(files.text("lib/deep/two.js"), Some("two"));
    }

    #[test]
    fn imports_stay_in_the_archive() {
        let bytes = archive(&[("./main.js", ""), ("lib/a.js", ""), ("lib/b/c.js", "")]);
        let files = Files::of_archive("a.tar", &bytes).unwrap();
        for (from, import, found) in [
            ("main.js", "./lib/a.js", Some("lib/a.js")),
            ("lib/a.js", "./b/c.js", Some("lib/b/c.js")),
            ("lib/b/c.js", "../a.js", Some("lib/a.js")),
            ("lib/b/c.js", "../../main.js", Some("main.js")),
            ("main.js", "../main.js", None),
            ("lib/a.js", "../../main.js", None),
            ("main.js", "lib/a.js", None),
            ("main.js", "/lib/a.js", None),
            ("main.js", "./lib/a", None),
            ("main.js", "file:///etc/passwd", None),
        ] {
            assert_eq!(files.resolve(from, import).as_deref(), found, "{import}");
        }
    }

    #[test]
    fn an_archive_that_leads_elsewhere_is_refused() {
        for path in ["../main.js", "/main.js", "lib/../../main.js"] {
            let text = refused(&[("index.js", ""), (path, "")]);
            assert!(text.contains("leads out of it"), "{text}");
        }
        assert!(refused(&[("other.js", "")]).contains("none of `main.mjs`"));
        assert!(refused(&[("main.js", "a\0b")]).contains("byte 1 is zero"));
        let many: Vec<_> = (0..=MAX_FILES).map(|n| format!("{n}.js")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), "")).collect();
        assert!(refused(&many).contains("more than 1000 files"));

        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, "main.js", "/etc/passwd")
            .unwrap();
        let bytes = builder.into_inner().unwrap();
        let text = Files::of_archive("a.tar", &bytes).unwrap_err().message;
        assert!(text.contains("`main.js` is no file"), "{text}");
    }

    #[test]
    fn bytes_that_are_cut_or_changed_are_refused_or_read() {
        let whole = archive(&[("main.js", "() => 1"), ("lib/a.js", "export default 1")]);
        for end in 0..whole.len() {
            // Whatever it is: no panic.
            drop(Files::of_archive("a.tar", &whole[..end]));
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x55;
            drop(Files::of_archive("a.tar", &changed));
        }
    }
}
