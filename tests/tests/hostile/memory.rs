//! Guests that take memory: all at once, bit by bit, many together.

use crate::case::{Case, Lane, case};
use crate::client::{at_once, get};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a memory bomb", get("told", "/grow?mb=1000"), "500 guest-memory-limit")
            .logs("told", "the guest needs more memory than its limit of 64Mi (hint: raise instance.memory)")
            .event("told", "MemoryLimit", "raise instance.memory")
            .twin(get("told", "/grow?mb=60"), "200"),
        case("a slow memory bomb", get("patient", "/grow-slowly?mb=1000"), "500 guest-memory-limit")
            .twin(get("patient", "/grow-slowly?mb=30"), "200"),
        case("more memory than a guest can name", get("plain", "/grow?mb=100000"), "500 guest-trap")
            .trap("unreachable")
            .twin(get("plain", "/grow?mb=1"), "200"),
        case(
            "many at once that hold memory",
            at_once(4, "narrow", "/hold?mb=1000&ms=100"),
            "4 x 500 guest-memory-limit",
        )
        .twin(at_once(4, "narrow", "/hold?mb=50&ms=100"), "4 x 200")
        .lane(Lane::Alone),
        case(
            "more at once than a service takes",
            at_once(12, "narrow", "/sleep?ms=1500"),
            "8 x 200, 4 x 503 queue-full",
        )
        .event("narrow", "Overloaded", "raise replicas or http.inFlight")
        .twin(at_once(8, "narrow", "/sleep?ms=500"), "8 x 200")
        .lane(Lane::Alone),
    ]
}
