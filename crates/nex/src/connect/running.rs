//! Chooses among the `nex up` of this machine.

use std::{
    net::{Ipv4Addr, TcpStream},
    path::Path,
};

use nex_server::{Phase, UpStatus};

use super::{
    address,
    resolve::{Up, UpAccess},
    waiting::sentence,
};
use crate::{
    environment::Environment,
    error::{CommandError, Kind},
};

/// The `nex up` that a command without flags means: that on the default data folder, else the only
/// one that runs, else the only one that stopped a moment ago, else the only one that was killed.
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

/// Every `nex up` that runs or may come back, those that run first.
pub(super) fn known(env: &Environment) -> Vec<Up> {
    let mut known = all(env);
    known.sort_by_key(|up| !runs(up));
    known
}

/// Returns whether the address of a `nex up` has become that of another program.
pub(super) fn is_replaced(up: &Up) -> bool {
    let port = up
        .access
        .as_ref()
        .and_then(|access| address::port(&access.url));
    !runs(up)
        && port.is_some_and(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        // Its own server may outlive it for a moment.
        && !nex_server::server_runs(&up.data_dir)
}

/// Returns whether the process of a `nex up` has not ended.
pub(super) fn runs(up: &Up) -> bool {
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
    let stopped = |up: &Up| up.phase == Phase::Stopped;
    if all.iter().any(runs) {
        all.retain(runs);
    } else if all.iter().any(stopped) {
        all.retain(stopped);
    }
    match all.first() {
        Some(first) if all.len() > 1 => Err(several(&all, first)),
        _ => Ok(all.pop()),
    }
}

/// The refusal to choose among several that all run, or have all ended.
fn several(all: &[Up], first: &Up) -> CommandError {
    if !runs(first) {
        let mut error = CommandError::new(
            Kind::Unreachable,
            format!(
                "no `nex up` runs, and there were {}, none of them on the default data folder",
                all.len()
            ),
        );
        for up in all {
            error = error.cause(sentence(up));
        }
        return error.hint(format!(
            "start the one you mean: nex up --data-dir {}; for another NATS server name it: `-s nats://HOST:PORT`",
            first.data_dir.display()
        ));
    }
    let mut error = CommandError::usage(format!(
        "there are {} `nex up`, none of them on the default data folder",
        all.len()
    ));
    for up in all {
        let url = up
            .access
            .as_ref()
            .map_or("not ready yet", |access| &access.url);
        error = error.cause(format!("{url} on {}", up.data_dir.display()));
    }
    error.hint(match all.iter().find_map(|up| up.access.as_ref()) {
        Some(example) => format!("say which one you mean: `-s {}`", example.url),
        None => "wait until one is ready, and say which one you mean with `-s`".to_owned(),
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
        let stopped = Up {
            phase: Phase::Stopped,
            ..up("/b")
        };
        assert_eq!(of(&[killed("/a"), stopped]).as_deref(), Some("/b"));
    }

    #[test]
    fn of_several_that_have_ended_none_is_named_by_its_address() {
        let stopped = |dir| Up {
            phase: Phase::Stopped,
            ..up(dir)
        };
        for (all, what) in [
            (
                vec![killed("/a"), killed("/b")],
                "the `nex up` on /b was killed",
            ),
            (
                vec![stopped("/a"), stopped("/b")],
                "the `nex up` on /b has just been stopped",
            ),
        ] {
            let error = choose_from(all, Path::new("/default")).unwrap_err();

            assert_eq!(error.kind(), Kind::Unreachable);
            let text = error.text();
            assert!(text.contains(what), "{text}");
            assert!(text.contains("nex up --data-dir /a"), "{text}");
            assert!(!text.contains("127.0.0.1"), "{text}");
        }
    }

    #[test]
    fn another_program_may_have_the_address_of_one_that_has_ended() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = |phase| Up {
            phase,
            access: Some(UpAccess {
                url: format!("nats://{}", listener.local_addr().unwrap()),
                creds: "/a/cli.creds".into(),
            }),
            ..up("/a")
        };
        let (killed, ready) = (at(Phase::Killed), at(Phase::Ready));
        assert!(is_replaced(&killed));
        assert!(!is_replaced(&ready));
        drop(listener);
        assert!(!is_replaced(&killed));
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
