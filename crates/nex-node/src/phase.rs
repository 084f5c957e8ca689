//! The phases of a node. Pure.

use nex_protocol::control::NodeState;

/// What a node is doing. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Its planned nexlets are not all there; those that are take work.
    Starting,
    /// All planned nexlets were there once.
    Running,
    /// It takes no more work; what runs goes on.
    Lameduck,
    /// Its nexlets end, and with them their workloads.
    Stopping,
}

impl Phase {
    /// The later of the two: an event that comes late changes nothing.
    pub(crate) fn advance(self, to: Self) -> Self {
        self.max(to)
    }

    /// Whether the node bids and deploys.
    pub(crate) fn takes_work(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }

    /// The word on the wire.
    pub(crate) fn state(self) -> NodeState {
        match self {
            Self::Starting => NodeState::Starting,
            Self::Running => NodeState::Running,
            Self::Lameduck => NodeState::Lameduck,
            Self::Stopping => NodeState::Stopping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Phase; 4] = [
        Phase::Starting,
        Phase::Running,
        Phase::Lameduck,
        Phase::Stopping,
    ];

    #[test]
    fn a_node_never_goes_back() {
        for from in ALL {
            for to in ALL {
                assert!(from.advance(to) >= from, "{from:?} -> {to:?}");
            }
        }
    }

    #[test]
    fn a_lame_duck_takes_no_work() {
        assert_eq!(ALL.map(Phase::takes_work), [true, true, false, false]);
    }
}
