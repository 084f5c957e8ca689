//! Names for workloads whose request has none.

const ADJECTIVES: [&str; 48] = [
    "able", "amber", "ample", "bold", "brave", "brisk", "bright", "calm", "civil", "clear",
    "clever", "cosy", "crisp", "eager", "early", "fair", "fancy", "fine", "fleet", "fresh",
    "gentle", "glad", "golden", "grand", "happy", "honest", "jolly", "keen", "kind", "lively",
    "lucky", "merry", "mild", "neat", "noble", "plain", "proud", "quick", "quiet", "ready",
    "royal", "sharp", "silver", "sunny", "swift", "tidy", "vivid", "warm",
];

const NOUNS: [&str; 48] = [
    "acorn", "anchor", "badger", "beacon", "birch", "bridge", "brook", "canyon", "cedar", "comet",
    "coral", "crane", "delta", "ember", "falcon", "fern", "finch", "fjord", "forest", "harbor",
    "hazel", "heron", "island", "juniper", "lagoon", "lantern", "larch", "lark", "linden", "lynx",
    "maple", "marten", "meadow", "orbit", "orchard", "otter", "pebble", "pine", "prairie",
    "quartz", "raven", "reef", "river", "sparrow", "summit", "thistle", "valley", "willow",
];

/// Makes up a name for a workload: `adjective-noun`. Not unique; ids are.
#[must_use]
pub fn made_up_name() -> String {
    // The tail of a unique id is as random as this needs.
    let id = nex_protocol::ids::unique();
    let number = id.bytes().fold(0usize, |number, byte| {
        number.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    let adjective = ADJECTIVES[number % ADJECTIVES.len()];
    let noun = NOUNS[number / ADJECTIVES.len() % NOUNS.len()];
    format!("{adjective}-{noun}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_one_token_and_differ() {
        let names: HashSet<String> = (0..64).map(|_| made_up_name()).collect();

        assert!(names.len() > 32, "{names:?}");
        for name in names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{name}"
            );
        }
    }
}
