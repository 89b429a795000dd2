//! Which services called each other until a request came to be.

use std::fmt;
use std::sync::Arc;

use skiff_api::id::ServiceKey;

/// Calls within calls. Real chains have three or four links; each holds an instance while it waits for the next, so a
/// cycle may not hold more than some of a node's.
pub(crate) const DEPTH_MAX: u8 = 8;

/// The callers of a request, the last one first. It travels beside the request and not in a header, so that no guest can
/// forge or forget it; from node to node it travels in a header that no guest sees.
#[derive(Clone, Default)]
pub(crate) struct Chain(Option<Arc<Link>>);

struct Link {
    service: ServiceKey,
    before: Chain,
    depth: u8,
}

impl Chain {
    /// The chain of a request that `service` sends while it answers one with this chain; `None` if it would be too long.
    pub(super) fn then(&self, service: &ServiceKey) -> Option<Self> {
        let depth = self.0.as_ref().map_or(0, |link| link.depth) + 1;
        let link = || Link { service: service.clone(), before: self.clone(), depth };
        (depth <= DEPTH_MAX).then(|| Self(Some(Arc::new(link()))))
    }

    /// The chain of these callers, the first one first. Whoever passes them has seen to it that they are not too many.
    pub(crate) fn of(services: Vec<ServiceKey>) -> Self {
        services.into_iter().fold(Self::default(), |before, service| {
            let depth = before.0.as_ref().map_or(0, |link| link.depth).saturating_add(1);
            Self(Some(Arc::new(Link { service, before, depth })))
        })
    }

    /// The callers, the first one first.
    pub(crate) fn services(&self) -> Vec<ServiceKey> {
        let mut services = Vec::new();
        let mut next = &self.0;
        while let Some(link) = next {
            services.push(link.service.clone());
            next = &link.before.0;
        }
        services.reverse();
        services
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(link) = &self.0 else { return Ok(()) };
        if link.before.0.is_some() {
            write!(f, "{} > ", link.before)?;
        }
        write!(f, "{}", link.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_ends_at_its_depth() {
        let service = |name: &str| ServiceKey { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() };
        let (a, b) = (service("a"), service("b"));
        let mut chain = Chain::default();
        assert_eq!(chain.to_string(), "");
        for number in 0..DEPTH_MAX {
            chain = chain.then(if number % 2 == 0 { &a } else { &b }).unwrap();
        }
        assert!(chain.to_string().starts_with("shop/a > shop/b > shop/a"), "{chain}");
        assert!(chain.then(&a).is_none());
        // As another node has it.
        let again = Chain::of(chain.services());
        assert_eq!(again.to_string(), chain.to_string());
        assert!(again.then(&a).is_none());
    }
}
