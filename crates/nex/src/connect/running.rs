//! Chooses among the `nex up` of this machine.

use std::path::Path;

use nex_server::{Phase, UpStatus};

use super::resolve::{Up, UpAccess};
use crate::{environment::Environment, error::CommandError};

/// The `nex up` that a command without flags means: that on the default data folder, else the only
/// one that runs, else the only one that was killed, or stopped a moment ago.
///
/// # Errors
/// When there are several, none of them on the default folder.
pub(super) fn choose(env: &Environment) -> Result<Option<Up>, CommandError> {
    // Without a home there is no registry, and so nobody who could have registered.
    let Ok(default) = env.default_up_dir() else {
        return Ok(None);
    };
    choose_from(all(env), &default)
}

/// Every `nex up` that runs and has been ready.
pub(super) fn live(env: &Environment) -> Vec<Up> {
    let mut live = all(env);
    live.retain(|up| runs(up) && up.access.is_some());
    live
}

fn runs(up: &Up) -> bool {
    !matches!(up.phase, Phase::Killed | Phase::Stopped)
}

fn all(env: &Environment) -> Vec<Up> {
    let Ok(registry) = env.up_registry_dir() else {
        return Vec::new();
    };
    let found = UpStatus::find(&registry).into_iter();
    let up = found.map(|status| Up {
        data_dir: status.data_dir,
        phase: status.phase,
        access: status.running.map(|running| UpAccess {
            url: running.url,
            creds: running.creds,
        }),
    });
    up.collect()
}

fn choose_from(mut all: Vec<Up>, default: &Path) -> Result<Option<Up>, CommandError> {
    if let Some(index) = all.iter().position(|up| same(&up.data_dir, default)) {
        return Ok(Some(all.swap_remove(index)));
    }
    if all.iter().any(runs) {
        all.retain(runs);
    }
    if all.len() < 2 {
        return Ok(all.pop());
    }
    let mut error = CommandError::usage(format!(
        "there are {} `nex up`, none of them on the default data folder",
        all.len()
    ));
    for up in &all {
        let url = up
            .access
            .as_ref()
            .map_or("not ready yet", |access| &access.url);
        error = error.cause(format!("{url} on {}", up.data_dir.display()));
    }
    Err(match all.iter().find_map(|up| up.access.as_ref()) {
        Some(example) => error.hint(format!("say which one you mean: `-s {}`", example.url)),
        None => error,
    })
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
            data_dir: data_dir.into(),
            phase: Phase::Ready,
            access: Some(UpAccess {
                url: format!("nats://127.0.0.1:{}", 4000 + data_dir.len()),
                creds: format!("{data_dir}/cli.creds").into(),
            }),
        }
    }

    fn killed(data_dir: &str) -> Up {
        Up {
            phase: Phase::Killed,
            ..up(data_dir)
        }
    }

    fn chosen_of(all: Vec<Up>) -> Option<String> {
        let chosen = choose_from(all, Path::new("/default")).unwrap();
        chosen.map(|up| up.data_dir.display().to_string())
    }

    fn chosen(running: &[&str]) -> Option<String> {
        chosen_of(running.iter().map(|dir| up(dir)).collect())
    }

    #[test]
    fn the_default_one_is_meant_else_the_only_one() {
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&["/a"]).as_deref(), Some("/a"));
        assert_eq!(chosen(&["/a", "/default"]).as_deref(), Some("/default"));
    }

    #[test]
    fn one_that_was_killed_is_meant_where_it_is_the_default_or_nothing_else_runs() {
        let of = |all: &[Up]| chosen_of(all.to_vec());
        assert_eq!(of(&[killed("/a"), up("/b")]).as_deref(), Some("/b"));
        assert_eq!(of(&[killed("/a")]).as_deref(), Some("/a"));
        let default = killed("/default");
        assert_eq!(of(&[default, up("/b")]).as_deref(), Some("/default"));
        choose_from(vec![killed("/a"), killed("/b")], Path::new("/default")).unwrap_err();
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
