//! Which of the running `nex up` is meant.

use std::path::Path;

use nex_server::Running;

use super::resolve::Up;
use crate::{environment::Environment, error::CommandError};

/// The running `nex up` that a command without flags means: that on the default data folder, else
/// the only one.
///
/// # Errors
/// When several run, none of them on the default folder.
pub(super) fn choose(env: &Environment) -> Result<Option<Up>, CommandError> {
    // Without a home there is no registry, and so nobody who could have registered.
    let (Ok(registry), Ok(default)) = (env.up_registry_dir(), env.default_up_dir()) else {
        return Ok(None);
    };
    let running = Running::find(&registry).into_iter().map(|up| Up {
        url: up.url,
        creds: up.creds,
        data_dir: up.data_dir,
    });
    choose_from(running.collect(), &default)
}

fn choose_from(mut running: Vec<Up>, default: &Path) -> Result<Option<Up>, CommandError> {
    if let Some(index) = running.iter().position(|up| same(&up.data_dir, default)) {
        return Ok(Some(running.swap_remove(index)));
    }
    if running.len() < 2 {
        return Ok(running.pop());
    }
    let mut error = CommandError::usage(format!(
        "{} `nex up` are running, none of them on the default data folder",
        running.len()
    ));
    for up in &running {
        error = error.cause(format!("{} on {}", up.url, up.data_dir.display()));
    }
    let example = &running[0];
    Err(error.hint(format!(
        "say which one you mean: `-s {} --creds {}`",
        example.url,
        example.creds.display()
    )))
}

/// Whether two paths name one folder, perhaps through links.
fn same(a: &Path, b: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().ok();
    a == b || canonical(a).is_some_and(|a| Some(a) == canonical(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(data_dir: &str) -> Up {
        Up {
            url: format!("nats://127.0.0.1:{}", 4000 + data_dir.len()),
            creds: format!("{data_dir}/cli.creds").into(),
            data_dir: data_dir.into(),
        }
    }

    fn chosen(running: &[&str]) -> Option<String> {
        let running = running.iter().map(|dir| up(dir)).collect();
        let chosen = choose_from(running, Path::new("/default")).unwrap();
        chosen.map(|up| up.data_dir.display().to_string())
    }

    #[test]
    fn the_default_one_is_meant_else_the_only_one() {
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&["/a"]).as_deref(), Some("/a"));
        assert_eq!(chosen(&["/a", "/default"]).as_deref(), Some("/default"));
    }

    #[test]
    fn of_several_a_person_has_to_choose() {
        let error = choose_from(vec![up("/a"), up("/bb")], Path::new("/default")).unwrap_err();

        let text = error.text();
        assert!(text.contains("nats://127.0.0.1:4002 on /a"), "{text}");
        assert!(text.contains("nats://127.0.0.1:4003 on /bb"), "{text}");
        assert!(
            text.contains("hint: say which one you mean: `-s "),
            "{text}"
        );
    }
}
