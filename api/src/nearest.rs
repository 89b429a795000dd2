//! The nearest valid name to a misspelt one.

/// The candidate that a person most likely meant, or `None` when nothing is close.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    // A third of the letters may be wrong: more, and the suggestion is noise.
    let most = (text.chars().count() / 3).max(1);
    candidates.into_iter().map(|c| (distance(c), c)).min().filter(|(d, _)| *d <= most).map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_the_near_and_leaves_the_far() {
        assert_eq!(nearest("replica", ["image", "replicas"]), Some("replicas"));
        assert_eq!(nearest("Replicas", ["image", "replicas"]), Some("replicas"));
        assert_eq!(nearest("colour", ["image", "replicas"]), None);
    }
}
