//! The context `nex` of the NATS CLI, so that `nats --context nex …` has the rights of the person
//! who ran `nex up`.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

/// By this description we know a context as ours.
const DESCRIPTION: &str = "written by `nex up`";

/// What became of the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It points to this server now.
    Ours,
    /// Somebody else's context has the name; it was left alone.
    Foreign,
}

/// Writes `nex.json`, unless one is there that we did not write. Never selects it.
///
/// # Errors
/// When the folder cannot be made or written.
pub(super) fn write(folder: &Path, url: &str, creds: &Path) -> io::Result<Written> {
    let path = folder.join("nex.json");
    match fs::read(&path) {
        Ok(present) if !is_ours(&present) => return Ok(Written::Foreign),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(folder)?,
        Err(error) => return Err(error),
    }
    let context = json!({ "description": DESCRIPTION, "url": url, "creds": creds });
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut file, &context)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(Written::Ours)
}

fn is_ours(context: &[u8]) -> bool {
    serde_json::from_slice::<Value>(context)
        .is_ok_and(|context| context["description"] == DESCRIPTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_replaced_and_a_foreign_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let contexts = folder.path().join("nats/context");
        let creds = Path::new("/data/cli.creds");

        assert_eq!(
            write(&contexts, "nats://a:1", creds).unwrap(),
            Written::Ours
        );
        assert_eq!(
            write(&contexts, "nats://a:2", creds).unwrap(),
            Written::Ours
        );
        let ours = fs::read_to_string(contexts.join("nex.json")).unwrap();
        assert!(
            ours.contains("nats://a:2") && ours.contains("/data/cli.creds"),
            "{ours}"
        );

        let foreign = r#"{"description":"mine"}"#;
        fs::write(contexts.join("nex.json"), foreign).unwrap();
        assert_eq!(
            write(&contexts, "nats://a:3", creds).unwrap(),
            Written::Foreign
        );
        assert_eq!(
            fs::read_to_string(contexts.join("nex.json")).unwrap(),
            foreign
        );
    }
}
