//! Polling with a deadline: the only way in which this project's tests wait.

use std::{
    fmt::Debug,
    future::Future,
    time::{Duration, Instant},
};

/// Time between two looks. Short, since most outcomes are milliseconds away.
const PERIOD: Duration = Duration::from_millis(10);

/// What one look found: the value waited for, or the state seen instead.
pub trait Attempt {
    /// What a successful look yields.
    type Value;

    /// The value, or a description of what was there instead.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl<T, E: Debug> Attempt for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|state| format!("{state:?}"))
    }
}

impl<T> Attempt for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl Attempt for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        if self {
            Ok(())
        } else {
            Err("false".to_owned())
        }
    }
}

/// Looks until `attempt` yields a value (`Some`, `Ok` or `true`) and returns it.
///
/// # Panics
///
/// When `limit` has passed, with the last state seen. A look that hangs counts as a state too.
#[track_caller]
pub fn eventually<A, F, Fut>(
    what: &str,
    limit: Duration,
    mut attempt: F,
) -> impl Future<Output = A::Value>
where
    A: Attempt,
    F: FnMut() -> Fut,
    Fut: Future<Output = A>,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = tokio::time::Instant::now() + limit;
        let mut last = "never looked".to_owned();
        loop {
            match tokio::time::timeout_at(deadline, attempt()).await {
                Ok(found) => match found.outcome() {
                    Ok(value) => return value,
                    Err(state) => last = state,
                },
                Err(_elapsed) => last = format!("a look that did not end, after: {last}"),
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{what}: not within {limit:?} ({caller}); last state: {last}",
            );
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// [`eventually`] for plain threads: the value, or the last state seen when `limit` has passed.
///
/// # Errors
///
/// The text of the failure, with `what` and the last state seen.
pub fn wait_until<A: Attempt>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> A,
) -> anyhow::Result<A::Value> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt().outcome() {
            Ok(value) => return Ok(value),
            Err(state) if Instant::now() >= deadline => {
                anyhow::bail!("{what}: not within {limit:?}; last state: {state}")
            }
            Err(_) => pause(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a plain thread between two looks; no runtime runs on it"
)]
fn pause() {
    std::thread::sleep(PERIOD);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn looks_again_until_the_value_is_there() {
        let looks = Cell::new(0);

        let value = eventually("third look", Duration::from_secs(1), || async {
            looks.set(looks.get() + 1);
            (looks.get() == 3).then_some("found")
        })
        .await;

        assert_eq!((value, looks.get()), ("found", 3));
    }

    #[tokio::test]
    #[should_panic(expected = "last state: \"2 of 3\"")]
    async fn a_deadline_shows_the_last_state() {
        eventually("all three", Duration::from_millis(50), || async {
            Err::<(), _>("2 of 3")
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "a look that did not end")]
    async fn a_look_that_hangs_meets_the_deadline() {
        eventually(
            "an answer",
            Duration::from_millis(50),
            std::future::pending::<bool>,
        )
        .await;
    }

    #[test]
    fn a_plain_thread_gets_the_last_state_as_an_error() {
        let error = wait_until("pigs", Duration::from_millis(20), || false).unwrap_err();

        assert!(
            error
                .to_string()
                .contains("pigs: not within 20ms; last state: false"),
            "{error}"
        );
    }
}
