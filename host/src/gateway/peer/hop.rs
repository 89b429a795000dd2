//! What one node says to another of a request, beside the request.
//!
//! ```text
//! x-skiff-hop: to=shop/cart; ms=12                                  a request from outside, under way for 12 ms
//! x-skiff-hop: to=shop/cart; ms=0; chain=shop/web>shop/basket       a call of basket, which answers a call of web
//! x-skiff-hop: gone                                                 an answer: nothing of it was begun, ask another node
//! ```
//! What is not known is left out, so that newer nodes talk to older ones.

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use skiff_api::id::ServiceKey;

use crate::capabilities::{Chain, DEPTH_MAX};

pub(in super::super) const HOP_HEADER: HeaderName = HeaderName::from_static("x-skiff-hop");

/// What is said with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) to: ServiceKey,
    /// How long the request is under way.
    pub(super) elapsed: Duration,
    /// The services that called each other, the first one first; none for a request from outside.
    pub(super) chain: Vec<ServiceKey>,
}

/// What is said with an answer of the node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    /// There is no replica here.
    Gone,
    /// There is no room here.
    Full,
    /// The service does not let the caller call it.
    NotACaller,
}

impl Verdict {
    const ALL: [Self; 3] = [Self::Gone, Self::Full, Self::NotACaller];

    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Full => "full",
            Self::NotACaller => "not-a-caller",
        }
    }

    /// Takes it out of an answer.
    pub(super) fn take(headers: &mut HeaderMap) -> Option<Self> {
        let said = headers.remove(HOP_HEADER)?;
        Self::ALL.into_iter().find(|verdict| said.as_bytes() == verdict.name().as_bytes())
    }
}

impl Hop {
    pub(super) fn new(to: ServiceKey, elapsed: Duration, chain: &Chain) -> Self {
        Self { to, elapsed, chain: chain.services() }
    }

    /// Takes it out of a request; `None` where it is missing or wrong.
    pub(super) fn take(headers: &mut HeaderMap) -> Option<Self> {
        let said = headers.remove(HOP_HEADER)?;
        let (mut to, mut elapsed, mut chain) = (None, Duration::ZERO, Vec::new());
        for part in said.to_str().ok()?.split("; ") {
            match part.split_once('=')? {
                ("to", service) => to = Some(service_of(service)?),
                ("ms", ms) => elapsed = Duration::from_millis(ms.parse().ok()?),
                ("chain", services) => chain = services.split('>').map(service_of).collect::<Option<_>>()?,
                _ => {}
            }
        }
        // Longer ones cannot be made.
        (chain.len() <= usize::from(DEPTH_MAX)).then_some(Self { to: to?, elapsed, chain })
    }

    /// Names are made of letters, digits and hyphens, so nothing here needs an escape.
    pub(super) fn value(&self) -> Option<HeaderValue> {
        let mut text = format!("to={}; ms={}", self.to, self.elapsed.as_millis());
        for (number, service) in self.chain.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{service}", if number == 0 { "; chain=" } else { ">" });
        }
        HeaderValue::try_from(text).ok()
    }
}

fn service_of(text: &str) -> Option<ServiceKey> {
    let (namespace, name) = text.split_once('/')?;
    Some(ServiceKey { namespace: namespace.parse().ok()?, name: name.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(value: &str) -> Option<Hop> {
        let mut headers = HeaderMap::from_iter([(HOP_HEADER, HeaderValue::from_str(value).unwrap())]);
        let hop = Hop::take(&mut headers);
        assert!(headers.is_empty());
        hop
    }

    #[test]
    fn what_is_said_is_understood() {
        let service = |text| service_of(text).unwrap();
        let hop = Hop {
            to: service("shop/cart"),
            elapsed: Duration::from_millis(12),
            chain: vec![service("shop/web"), service("ops/probe")],
        };
        let value = hop.value().unwrap();
        assert_eq!(value, "to=shop/cart; ms=12; chain=shop/web>ops/probe");
        assert_eq!(taken(value.to_str().unwrap()), Some(hop));
        let outside = Hop { to: service("shop/cart"), elapsed: Duration::ZERO, chain: Vec::new() };
        assert_eq!(outside.value().unwrap(), "to=shop/cart; ms=0");
        assert_eq!(taken("to=shop/cart"), Some(outside.clone()));
        assert_eq!(taken("ms=0; of=a newer version; to=shop/cart"), Some(outside));
    }

    #[test]
    fn nonsense_is_refused() {
        let long = format!("to=a/b; chain={}", ["a/b"; 9].join(">"));
        for value in ["", "to", "ms=1", "to=cart", "to=a/B", "to=a/b; ms=x", "to=a/b; ms=-1", "to=a/b; chain=", &long] {
            assert_eq!(taken(value), None, "{value:?}");
        }
        assert_eq!(Hop::take(&mut HeaderMap::new()), None);
    }

    #[test]
    fn verdicts_are_read_back() {
        for verdict in Verdict::ALL {
            let value = HeaderValue::from_static(verdict.name());
            assert_eq!(Verdict::take(&mut HeaderMap::from_iter([(HOP_HEADER, value)])), Some(verdict));
        }
        let unknown = HeaderMap::from_iter([(HOP_HEADER, HeaderValue::from_static("what"))]);
        assert_eq!(Verdict::take(&mut unknown.clone()), None);
    }
}
