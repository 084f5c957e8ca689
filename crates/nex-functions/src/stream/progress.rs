//! Counts what a consumer delivers, and tells repeats from first deliveries.

use super::Delivery;

/// How far a consumer has come, as one replica sees it.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The consumer's number of its last delivery.
    number: u64,
    /// The first delivery that is furthest in the stream.
    furthest: Option<Delivery>,
}

/// What a delivery adds to the counts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Deliveries since the one before, to other replicas included.
    pub(crate) deliveries: u64,
    /// Whether the message was delivered before.
    pub(crate) repeat: bool,
}

impl Progress {
    /// Of a consumer that has delivered so often.
    pub(crate) fn after(number: u64) -> Self {
        Self {
            number,
            furthest: None,
        }
    }

    /// Takes a delivery into account. They come in the order of the consumer's numbers.
    ///
    /// A server that is killed forgets what its consumers did just before. It gives deliveries their
    /// numbers again then, and says of repeats that they are the first delivery. But first ones come
    /// in the order of the stream: one that is not beyond all others is a repeat.
    pub(crate) fn step(&mut self, delivery: Delivery) -> Step {
        let deliveries = match delivery.number.checked_sub(self.number) {
            Some(ahead) if ahead > 0 => ahead,
            _forgotten => 1,
        };
        self.number = delivery.number;
        let forgotten = self.furthest.is_some_and(|furthest| {
            // The numbers of a stream that was made anew begin again, its times do not.
            delivery.sequence <= furthest.sequence && delivery.stored <= furthest.stored
        });
        let repeat = delivery.attempt > 1 || forgotten;
        if !repeat {
            self.furthest = Some(delivery);
        }
        Step { deliveries, repeat }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempt, number in the stream, number of the consumer, when it was stored.
    fn step(progress: &mut Progress, delivery: (u64, u64, u64, u64)) -> (u64, bool) {
        let (attempt, sequence, number, stored) = delivery;
        let step = progress.step(Delivery {
            attempt,
            sequence,
            number,
            stored,
        });
        (step.deliveries, step.repeat)
    }

    #[test]
    fn deliveries_to_others_count_and_are_no_repeats() {
        let mut progress = Progress::after(0);
        assert_eq!(step(&mut progress, (1, 1, 1, 10)), (1, false));
        assert_eq!(step(&mut progress, (1, 4, 4, 40)), (3, false));
        assert_eq!(step(&mut progress, (2, 2, 5, 20)), (1, true));
        assert_eq!(step(&mut progress, (1, 5, 6, 50)), (1, false));
    }

    #[test]
    fn it_goes_on_where_the_consumer_was() {
        let mut progress = Progress::after(100);
        assert_eq!(step(&mut progress, (1, 90, 101, 10)), (1, false));
    }

    #[test]
    fn what_the_server_forgot_is_a_repeat() {
        let mut progress = Progress::after(0);
        for number in 1..=5 {
            step(&mut progress, (1, number, number, number));
        }
        assert_eq!(step(&mut progress, (1, 4, 4, 4)), (1, true));
        assert_eq!(step(&mut progress, (1, 5, 5, 5)), (1, true));
        assert_eq!(step(&mut progress, (1, 6, 6, 6)), (1, false));
    }

    #[test]
    fn a_stream_that_was_made_anew_repeats_nothing() {
        let mut progress = Progress::after(0);
        step(&mut progress, (1, 5, 5, 50));
        assert_eq!(step(&mut progress, (1, 1, 1, 60)), (1, false));
    }
}
