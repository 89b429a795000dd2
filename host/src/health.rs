//! Whether a replica is well: asked as its service says, again and again. How it is asked is up to what it is.

use std::time::Duration;

use skiff_api::resource::Health;
use tokio::time::{Instant, sleep, timeout};

/// The first pause of one that is not well yet; the next ones are longer, up to that between two checks.
const SOON: Duration = Duration::from_millis(50);

/// Something that can be asked.
pub(crate) trait Check {
    /// An error is what is wrong.
    fn check(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Waits until it is well, but no longer than that. Returns what was last wrong.
pub(crate) async fn recovers(health: &Health, until: Instant, check: &impl Check) -> Result<(), String> {
    let mut pause = SOON;
    loop {
        let Err(why) = checked(health, check).await else { return Ok(()) };
        if Instant::now() + pause > until {
            return Err(why);
        }
        sleep(pause).await;
        pause = (pause * 2).min(health.every.as_duration());
    }
}

/// Returns once so many checks have failed that it is to be replaced, with what was last wrong.
pub(crate) async fn ails(health: &Health, check: &impl Check) -> String {
    let mut failures = 0;
    loop {
        sleep(health.every.as_duration()).await;
        match checked(health, check).await {
            Ok(()) => failures = 0,
            Err(why) => {
                failures += 1;
                if failures >= health.failures {
                    return format!("{failures} checks failed one after another: {why}");
                }
            }
        }
    }
}

async fn checked(health: &Health, check: &impl Check) -> Result<(), String> {
    let limit = health.timeout;
    timeout(limit.as_duration(), check.check()).await.unwrap_or_else(|_| Err(format!("no answer within {limit}")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Well after two tries, then ill once, and then for good; the eighth answer never comes.
    #[derive(Default)]
    struct Frail(AtomicU32);

    impl Check for Frail {
        async fn check(&self) -> Result<(), String> {
            match self.0.fetch_add(1, Ordering::Relaxed) + 1 {
                3 | 5 => Ok(()),
                8 => std::future::pending().await,
                _ => Err("a cold".to_owned()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_often_enough_in_a_row_ails() {
        let health = r#"{"path":"/","every":"2s","timeout":"1s","failures":3}"#;
        let health: Health = serde_json::from_str(health).unwrap();
        let (frail, start) = (Frail::default(), Instant::now());
        recovers(&health, start + Duration::from_secs(10), &frail).await.unwrap();
        assert_eq!(ails(&health, &frail).await, "3 checks failed one after another: no answer within 1s");
        assert_eq!((frail.0.load(Ordering::Relaxed), start.elapsed().as_secs()), (8, 11));
        assert_eq!(recovers(&health, Instant::now(), &frail).await.unwrap_err(), "a cold");
    }
}
