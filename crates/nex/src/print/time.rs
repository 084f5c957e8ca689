//! Times and durations for people.

use jiff::Timestamp;

/// A duration as Go Nex prints an uptime: `1d 2h 3m 4s`, zero parts left out, `0s` at least.
pub(crate) fn uptime(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let shown: Vec<String> = parts
        .iter()
        .filter(|(amount, _)| *amount > 0)
        .map(|(amount, unit)| format!("{amount}{unit}"))
        .collect();
    if shown.is_empty() {
        "0s".to_owned()
    } else {
        shown.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_parts_are_left_out() {
        let start = Timestamp::UNIX_EPOCH;
        for (seconds, text) in [
            (0, "0s"),
            (5, "5s"),
            (60, "1m"),
            (93_784, "1d 2h 3m 4s"),
            (86_401, "1d 1s"),
        ] {
            let now = Timestamp::from_second(seconds).unwrap();
            assert_eq!(uptime(start, now), text);
        }
        assert_eq!(uptime(Timestamp::from_second(9).unwrap(), start), "0s");
    }
}
