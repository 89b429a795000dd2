//! Telling people what was refused or failed, without letting a guest flood them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The same refusal is told again after this: an event that is as old as this is still found.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Different ones of one replica that are told within that time: more than a service has dependencies, and few enough
/// that a guest which makes names up tells little.
const DIFFERENT_MAX: usize = 16;

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Vec<(String, Instant)>>);

impl Notes {
    /// Whether this is to be told now.
    pub(super) fn is_news(&self, text: &str) -> bool {
        let now = Instant::now();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(_, at)| now.duration_since(*at) < AGAIN_AFTER);
        if told.len() >= DIFFERENT_MAX || told.iter().any(|(before, _)| before == text) {
            return false;
        }
        told.push((text.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_is_told_once_a_minute_and_not_too_much_of_anything() {
        let notes = Notes::default();
        assert!(notes.is_news("a") && !notes.is_news("a") && notes.is_news("b"));
        let told = (0..100).filter(|number| notes.is_news(&number.to_string())).count();
        assert_eq!(told, DIFFERENT_MAX - 2);
        tokio::time::advance(AGAIN_AFTER).await;
        assert!(notes.is_news("a"));
    }
}
