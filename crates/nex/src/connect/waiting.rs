//! The wait for a `nex up` that starts, restarts its server, or was killed and may come back.
//!
//! A command that has seen such a `nex up` goes to no other server: what it was to do was meant for
//! that one.

use std::{path::PathBuf, time::Duration};

use nex_server::Phase;
use tokio::time::{Instant, sleep};

use super::resolve::Up;
use crate::{
    error::{CommandError, Kind},
    print::Printer,
};

/// Limit for a running `nex up` to take clients: a person waits.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// Limit for a killed or stopped `nex up` to be started again, as by a service
/// manager.
const RESTART_LIMIT: Duration = Duration::from_secs(3);

/// Limit for all waits of a command together, through one restart or several.
const TOTAL_LIMIT: Duration = Duration::from_secs(20);

/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// The wait of one command, which may be in several parts.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    began: Option<Instant>,
    /// Beginning of the phase that the note tells.
    since: Option<Instant>,
    last: Option<(PathBuf, Phase)>,
    /// Last note for the person.
    note: String,
}

impl Waiting {
    /// Returns whether a `nex up` was waited for.
    pub(super) fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// Waits for a moment because of what a `nex up` is doing, and says so when that changes.
    ///
    /// # Errors
    /// When the command has waited long enough.
    pub(super) async fn on(&mut self, up: Up, printer: &Printer) -> Result<(), CommandError> {
        let note = sentence(&up);
        if self.note != note {
            let reason = reason(&up.phase).unwrap_or_default();
            printer.note(format!("{note}{reason}: waiting for it"));
            self.note = note;
            self.since = None;
        }
        self.last = Some((up.data_dir, up.phase));
        self.again().await
    }

    /// Waits for a moment because the `nex up` is not found any more.
    ///
    /// # Errors
    /// When the command has waited long enough.
    pub(super) async fn again(&mut self) -> Result<(), CommandError> {
        let began = *self.began.get_or_insert_with(Instant::now);
        let since = *self.since.get_or_insert_with(Instant::now);
        let Some((data_dir, phase)) = &self.last else {
            return Ok(());
        };
        let limit = match phase {
            Phase::Killed | Phase::Stopped => RESTART_LIMIT,
            _ => READY_LIMIT,
        };
        if since.elapsed() < limit && began.elapsed() < TOTAL_LIMIT {
            sleep(LOOK_PAUSE).await;
            return Ok(());
        }
        let up = Up {
            data_dir: data_dir.clone(),
            phase: phase.clone(),
            access: None,
        };
        Err(over(&up, began.elapsed()))
    }
}

/// The phase of a `nex up` as a sentence.
pub(super) fn sentence(up: &Up) -> String {
    let dir = up.data_dir.display();
    match up.phase {
        Phase::Starting => format!("the `nex up` on {dir} is starting"),
        Phase::Ready | Phase::Restarting(_) => {
            format!("the nats-server of the `nex up` on {dir} is being restarted")
        }
        Phase::Stopping => format!("the `nex up` on {dir} is stopping"),
        Phase::Stopped => format!("the `nex up` on {dir} has just been stopped"),
        Phase::Killed => format!("the `nex up` on {dir} was killed"),
    }
}

/// The reason of a restart on one line, for the end of a sentence. Of a reason that quotes a log it
/// has the last line of that.
fn reason(phase: &Phase) -> Option<String> {
    let Phase::Restarting(reason) = phase else {
        return None;
    };
    let mut lines = reason.lines();
    let first = lines.next()?;
    Some(match lines.next_back() {
        Some(last) => format!(" ({first} {})", last.trim()),
        None => format!(" ({first})"),
    })
}

fn over(up: &Up, waited: Duration) -> CommandError {
    let mut error = CommandError::new(Kind::Unreachable, sentence(up));
    if let Phase::Restarting(reason) = &up.phase {
        error = error.cause(reason.clone());
    }
    let waited = waited.as_secs();
    error = error.cause(format!("it took no clients for {waited} s"));
    let dir = up.data_dir.display();
    let elsewhere = "for another NATS server name it: `-s nats://HOST:PORT`";
    error.hint(match up.phase {
        Phase::Stopping | Phase::Stopped | Phase::Killed => {
            format!("start it again: nex up --data-dir {dir}; {elsewhere}")
        }
        _ => format!("try again later, or look into `{dir}/nats-server.log`; {elsewhere}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_several_lines_is_told_on_one() {
        let told = |text: &str| reason(&Phase::Restarting(text.to_owned())).unwrap_or_default();

        assert_eq!(told("it ended"), " (it ended)");
        let quoted = "it ended; the end of its log:\n[INF] starting\n[FTL] no space\n";
        assert_eq!(
            told(quoted),
            " (it ended; the end of its log: [FTL] no space)"
        );
        assert_eq!(
            told("its log:\n[FTL] no space"),
            " (its log: [FTL] no space)"
        );
        assert_eq!(told(""), "");
    }
}
