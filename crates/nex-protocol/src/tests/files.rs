//! Files that tests hold the code to.

use std::{collections::BTreeSet, env, fs, path::Path};

/// Set to anything, it makes the tests write their files instead of comparing them.
const UPDATE: &str = "NEX_UPDATE_GOLDEN";

/// Compares a file with what it should be, or writes it.
pub(super) fn check(path: &Path, wanted: &str) {
    if env::var_os(UPDATE).is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, wanted).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    // With line ends of the checkout's own choice.
    let found = found.replace("\r\n", "\n");
    let (ours, theirs) = wanted
        .lines()
        .zip(found.lines().chain(std::iter::repeat("")))
        .find(|(ours, theirs)| ours != theirs)
        .unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not what the code makes of it.\n  file: {theirs}\n  code: {ours}\n\
         Go peers read these bytes: look at the difference. If it is meant, write the files anew with\n  \
         {UPDATE}=1 cargo test -p nex-protocol",
        path.display()
    );
}

/// Fails where a folder holds a file that nobody compares any more.
pub(super) fn check_folder(folder: &Path, wanted: impl IntoIterator<Item = String>) {
    let wanted: BTreeSet<String> = wanted.into_iter().collect();
    let found: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let left: Vec<&String> = found.difference(&wanted).collect();
    assert!(
        left.is_empty(),
        "remove from {}: {left:?}",
        folder.display()
    );
}
