//! A row of the table: an attack, what must come of it, and its benign twin.

use std::time::Duration;

use crate::world::World;

/// Whatever somebody does to the cluster. It returns what came of it, in a few words: `504 first-byte-timeout`.
pub(crate) type Attack = Box<dyn Fn(&World) -> String + Send + Sync>;

/// What an attack must leave where operators look.
#[derive(Debug, Clone)]
pub(crate) enum Trace {
    /// An event about a replica of the service.
    Event { service: &'static str, reason: &'static str, says: &'static str },
    /// A line in the service's log.
    Log { service: &'static str, says: &'static str },
    /// A response body that broke off is counted.
    CutOff,
    /// A trap of this kind is counted.
    Trap(&'static str),
    /// Another figure of the node grows by so many; this case and others that name it are all that moves it.
    Counts { name: &'static str, label: &'static str, by: u64 },
}

/// Which cases may run beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// It needs the processor: a few of them at a time.
    Busy,
    /// It waits for the compiler, which does few things at a time on a small machine.
    Compiling,
    /// It mostly waits: all of them at once.
    Waiting,
    /// It takes what the others need, or looks at what they would change.
    Alone,
}

/// A row of the table.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) attack: Attack,
    /// What must come of it. With `…` at its end, how that must begin.
    pub(crate) expected: String,
    pub(crate) traces: Vec<Trace>,
    /// What stays just within the limit, and what must come of that.
    pub(crate) twin: Option<(Attack, String)>,
    pub(crate) lane: Lane,
    pub(crate) deadline: Duration,
    /// It runs only with all that takes minutes.
    pub(crate) is_long: bool,
}

/// For one attack and its twin on a machine that also builds something.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) fn case(name: impl Into<String>, attack: Attack, expected: impl Into<String>) -> Case {
    Case {
        name: name.into(),
        attack,
        expected: expected.into(),
        traces: Vec::new(),
        twin: None,
        lane: Lane::Busy,
        deadline: DEADLINE,
        is_long: false,
    }
}

impl Case {
    pub(crate) fn twin(mut self, attack: Attack, expected: impl Into<String>) -> Self {
        self.twin = Some((attack, expected.into()));
        self
    }

    pub(crate) fn leaves(mut self, trace: Trace) -> Self {
        self.traces.push(trace);
        self
    }

    pub(crate) fn logs(self, service: &'static str, says: &'static str) -> Self {
        self.leaves(Trace::Log { service, says })
    }

    pub(crate) fn event(self, service: &'static str, reason: &'static str, says: &'static str) -> Self {
        self.leaves(Trace::Event { service, reason, says })
    }

    pub(crate) fn cut_off(self) -> Self {
        self.leaves(Trace::CutOff)
    }

    pub(crate) fn trap(self, kind: &'static str) -> Self {
        self.leaves(Trace::Trap(kind))
    }

    pub(crate) fn counts(self, name: &'static str, label: &'static str, by: u64) -> Self {
        self.leaves(Trace::Counts { name, label, by })
    }

    /// What takes a minute of waiting, or of a whole machine.
    pub(crate) fn long(mut self) -> Self {
        self.is_long = true;
        self
    }

    pub(crate) fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    pub(crate) fn within(mut self, secs: u64) -> Self {
        self.deadline = Duration::from_secs(secs);
        self
    }
}

/// Whether what came is what must come. Where two things happen at once, either may win: `closed or 200 cut`.
pub(crate) fn matches(came: &str, expected: &str) -> bool {
    expected.split(" or ").any(|expected| match expected.strip_suffix('…') {
        Some(start) => came.starts_with(start),
        None => came == expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipsis_stands_for_any_end() {
        assert!(matches("200", "200") && !matches("200 cut", "200"));
        assert!(matches("502: refused: no", "502: refused…") && !matches("200", "502…"));
    }
}
