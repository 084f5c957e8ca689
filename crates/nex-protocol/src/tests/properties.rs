//! What holds for every value, not only for those that somebody thought of.

mod round_trips;
mod texts;
mod untrusted;
