//! Checks of containers.

use super::{ARGS_BYTES_MAX, Fault, PATH_BYTES_MAX};
use crate::quantity::Span;
use crate::resource::{Health, ServiceSpec, http_port};

/// More often costs the service more than it learns.
const EVERY_MIN: Span = Span::from_secs(1);
const SPAN_MAX: Span = Span::from_secs(3600);
const FAILURES_MAX: u32 = 1000;

pub(super) fn check(spec: &ServiceSpec, faults: &mut Vec<Fault>) {
    let Some(health) = &spec.health else { return };
    let mut wrong = |field: &str, message: String, hint: &str| {
        faults.push(Fault::new(format!("health{field}"), message, hint));
    };
    let asks = health.path.is_some() || health.port.is_some();
    if asks != health.exec.is_empty() {
        let message = match asks {
            true => "exec and a path or port are two ways to ask",
            false => "it does not say what is asked",
        };
        wrong("", message.to_owned(), "write one of path: /healthz, port: 5432, and exec: [PROGRAM, ARGUMENT]");
    }
    if let Some(path) = &health.path {
        let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_path || path.len() > PATH_BYTES_MAX {
            wrong(".path", format!("{path:?} is not a path"), "write one such as /healthz");
        }
        if health.port.is_none() && http_port(&spec.ports).is_none() && !spec.ports.is_empty() {
            wrong(".path", "none of its ports is for requests".to_owned(), "write health.port as well");
        }
    }
    if health.port == Some(0) {
        wrong(".port", "0 is no port to connect to".to_owned(), "");
    }
    if health.exec.iter().map(String::len).sum::<usize>() > ARGS_BYTES_MAX {
        wrong(".exec", format!("it has more than {ARGS_BYTES_MAX} bytes"), "");
    }
    let Health { every, timeout, failures, start, .. } = health;
    for (field, span, least) in
        [(".every", every, EVERY_MIN), (".timeout", timeout, Span::from_ms(1)), (".start", start, Span::from_ms(1))]
    {
        if !(least..=SPAN_MAX).contains(span) {
            wrong(field, format!("{span} is not between {least} and {SPAN_MAX}"), "");
        }
    }
    if !(1..=FAILURES_MAX).contains(failures) {
        wrong(".failures", format!("{failures} is not between 1 and {FAILURES_MAX}"), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Port;

    fn fields(health: &str) -> Vec<String> {
        let mut spec = ServiceSpec::new("cart:1".parse().unwrap());
        spec.ports = vec![Port { name: None, port: 80 }];
        spec.health = Some(serde_json::from_str(health).unwrap());
        let mut faults = Vec::new();
        check(&spec, &mut faults);
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn one_way_to_ask_and_times_that_make_sense() {
        for good in [r#"{"path":"/healthz"}"#, r#"{"path":"/","port":81}"#, r#"{"port":5432}"#, r#"{"exec":["ok"]}"#] {
            assert!(fields(good).is_empty(), "{good}");
        }
        assert_eq!(fields("{}"), ["health"]);
        assert_eq!(fields(r#"{"port":1,"exec":["ok"]}"#), ["health"]);
        assert_eq!(fields(r#"{"path":"healthz"}"#), ["health.path"]);
        assert_eq!(fields(r#"{"path":"/a b"}"#), ["health.path"]);
        assert_eq!(fields(r#"{"port":0}"#), ["health.port"]);
        let times = r#"{"port":1,"every":"10ms","timeout":"0s","start":"2h","failures":0}"#;
        assert_eq!(fields(times), ["health.every", "health.timeout", "health.start", "health.failures"]);
    }
}
