//! Names for replicas, drawn from a seed that is an argument: the binary gives a random one, a simulation its own.

use std::collections::BTreeSet;

use skiff_api::{Name, ReplicaName};

/// No vowels and nothing that looks like another character, so that no suffix is a word or is misread.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// 14 million names per revision; one that is taken is drawn again.
const SUFFIX_LEN: usize = 5;

/// A stream of name suffixes.
#[derive(Debug, Clone)]
pub struct Names {
    state: u64,
}

impl Names {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A name for a replica of `service`'s revision `number` that is not `taken`.
    pub fn replica(&mut self, service: &Name, number: u64, taken: &BTreeSet<ReplicaName>) -> ReplicaName {
        loop {
            let name = ReplicaName::new(format!("{service}-{number}-{}", self.suffix()));
            if !taken.contains(&name) {
                return name;
            }
        }
    }

    fn suffix(&mut self) -> String {
        let mut bits = self.next();
        let mut letter = || {
            let index = (bits % ALPHABET.len() as u64) as usize;
            bits /= ALPHABET.len() as u64;
            char::from(ALPHABET[index])
        };
        (0..SUFFIX_LEN).map(|_| letter()).collect()
    }

    /// SplitMix64: one word of state, a full period, and outputs that differ for neighbouring seeds.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_depend_on_the_seed_and_avoid_what_is_taken() {
        let cart: Name = "cart".parse().unwrap();
        let first = Names::new(7).replica(&cart, 3, &BTreeSet::new());
        assert_eq!(first, Names::new(7).replica(&cart, 3, &BTreeSet::new()));
        assert_ne!(first, Names::new(8).replica(&cart, 3, &BTreeSet::new()));
        assert!(first.as_str().starts_with("cart-3-") && first.as_str().len() == "cart-3-".len() + SUFFIX_LEN);
        let taken = BTreeSet::from([first.clone()]);
        assert_ne!(first, Names::new(7).replica(&cart, 3, &taken));
    }

    #[test]
    fn every_letter_comes_up() {
        let mut names = Names::new(1);
        let seen: BTreeSet<char> = (0..200).flat_map(|_| names.suffix().chars().collect::<Vec<_>>()).collect();
        assert_eq!(seen.len(), ALPHABET.len());
    }
}
