//! Waiting with a deadline: asks again until the answer is there, and says what never came.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a loaded machine; shorter than anybody's patience with a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Short enough not to be felt, long enough to leave the machine to what is waited for.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(15);

/// Asks until `probe` answers, for as long as [`PATIENCE`].
///
/// # Panics
/// With `what`, when it never does.
#[track_caller]
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

/// As [`eventually`], with a deadline of the test's own.
///
/// # Panics
/// With `what`, when it never answers.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        thread::sleep(ASK_AGAIN_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_until_there_is_an_answer() {
        let mut asked = 0;
        let answer = eventually("the third answer", || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(answer, 3);
    }

    #[test]
    #[should_panic(expected = "in vain: a thing that never is")]
    fn says_what_never_came() {
        within(Duration::from_millis(1), "a thing that never is", || None::<()>);
    }
}
